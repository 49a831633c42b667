package logs

// A Memory is what a [Writer] knows that its file does not say: the lines that are begun and not ended.
type Memory struct {
	Text  [2][]byte // by stream
	Stamp [2][]byte // of the first records of those lines
}

// Remember returns what [Writer.Recall] needs to go on where this one stops, and whether it can stop here: not while a disk is
// full or a file is being compressed.
func (w *Writer) Remember() (m Memory, ok bool) {
	if w == nil {
		return m, true
	}
	w.Flush()
	w.old.mu.Lock()
	defer w.old.mu.Unlock()
	for i, l := range w.lines {
		m.Text[i], m.Stamp[i] = l.text, l.stamp
	}
	return m, !w.behind() && !w.old.busy
}

// Recall goes on where another Writer stopped.
func (w *Writer) Recall(m Memory) {
	if w == nil {
		return
	}
	for i := range w.lines {
		w.lines[i] = line{text: m.Text[i], stamp: m.Stamp[i]}
	}
}
