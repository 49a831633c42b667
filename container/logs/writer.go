// Package logs keeps what a container prints, in docker's json-file format byte for byte, and reads it back.
//
// A [Writer] belongs to the process that reads the container's pipes or terminal. It knows nothing about readers: they
// find what is new by themselves ([Read]), so that none can slow a container down or make it lose output. A file that is
// full is renamed to path.1, the one before to path.2, and so on; old ones may be compressed, to path.N.gz.
//
// Nothing is synced to the disk: when the machine crashes, the last seconds may be missing or a line be torn. A reader
// steps over what is torn.
package logs

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// maxPiece is the longest text of one record, as docker has it: a longer line is several records, of which only the last
// one ends with "\n".
const maxPiece = 16 << 10

// fullBuffer is how many bytes of records are collected at most before they are written.
const fullBuffer = 64 << 10

// A Writer writes a log. It collects records and writes them when it is told to, so that one wake-up of its owner is one
// write(2). All its methods may be called on a nil Writer, which keeps nothing. It is not safe for concurrent use.
//
// Writing never fails for its owner: while the disk is full, what comes is counted instead of kept, and a record says how
// much that was as soon as one can be written.
type Writer struct {
	path   string
	config Config
	fd     int   // -1 while the file cannot be opened
	size   int64 // of the file
	buf    []byte
	lines  [2]line // by stream, begun and not ended
	at     time.Time
	stamp  []byte // at, as it is written
	torn   []byte // the rest of a record whose beginning is in the file, or "\n" if that rest is lost
	lost   loss
	old    archive
}

// A line is the one that a stream is in the middle of.
type line struct {
	text  []byte // of the next record
	stamp []byte // of its first record, which the later ones repeat; empty if no record of it was made yet
}

// A loss is what could not be written since the last time that something could.
type loss struct {
	records, bytes int
	cause          error
}

// Open opens the log at path to be written further, or makes it. Two writers must not have one log at the same time.
func Open(path string, c Config) (*Writer, error) {
	w := &Writer{path: path, config: c, fd: -1, old: archive{path: path, files: c.MaxFiles}}
	if err := w.open(); err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var last [1]byte
	if n, _ := syscall.Pread(w.fd, last[:], w.size-1); n == 1 && last[0] != '\n' {
		w.torn = []byte("\n") // the process that wrote it was killed
	}
	if c.Compress {
		w.old.compress()
	}
	return w, nil
}

func (w *Writer) open() error {
	fd, err := syscall.Open(w.path, syscall.O_RDWR|syscall.O_APPEND|syscall.O_CREAT|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		_ = syscall.Close(fd)
		return err
	}
	w.fd, w.size = fd, st.Size
	return nil
}

// Write takes what was read from a stream at a time, which becomes the time of the records. It keeps no reference to p.
func (w *Writer) Write(s Stream, p []byte, at time.Time) {
	if w == nil {
		return
	}
	w.now(at)
	l := &w.lines[s-1]
	for len(p) > 0 {
		room := maxPiece - len(l.text)
		n := bytes.IndexByte(p[:min(room, len(p))], '\n') + 1
		switch {
		case n > 0:
		case len(p) < room:
			l.text = append(l.text, p...)
			return
		default:
			n = room
		}
		text := p[:n]
		if len(l.text) > 0 {
			l.text = append(l.text, text...)
			text = l.text
		}
		w.record(s, text)
		l.text = l.text[:0]
		p = p[n:]
	}
}

// End takes note that a stream has ended: what it wrote after its last "\n" becomes a record.
func (w *Writer) End(s Stream, at time.Time) {
	if w == nil {
		return
	}
	if text := w.lines[s-1].text; len(text) > 0 {
		w.now(at)
		w.record(s, text)
	}
	w.lines[s-1] = line{}
}

func (w *Writer) now(at time.Time) {
	if len(w.stamp) == 0 || !at.Equal(w.at) {
		w.at, w.stamp = at, at.UTC().AppendFormat(w.stamp[:0], time.RFC3339Nano)
	}
}

func (w *Writer) record(s Stream, text []byte) {
	l, stamp := &w.lines[s-1], w.stamp
	if len(l.stamp) > 0 {
		stamp = l.stamp
	}
	if w.full(w.size + int64(len(w.buf))) {
		if w.Flush(); w.full(w.size) {
			w.rotate()
		}
	}
	w.buf = appendRecord(w.buf, text, s, w.config.Attrs, stamp)
	switch ends := text[len(text)-1] == '\n'; {
	case ends:
		l.stamp = l.stamp[:0]
	case len(l.stamp) == 0:
		l.stamp = append(l.stamp, stamp...)
	}
	if len(w.buf) >= fullBuffer {
		w.Flush()
	}
}

func (w *Writer) full(size int64) bool { return w.config.MaxSize > 0 && size >= w.config.MaxSize }

// Flush writes all records that were collected. If records were lost before, it tries first to say so: an owner with
// nothing to write may call it now and then.
func (w *Writer) Flush() {
	if w == nil || len(w.buf) == 0 && !w.behind() {
		return
	}
	if !w.behind() || w.catchUp() {
		w.lose(w.buf[w.write(w.buf):])
	} else {
		w.lost.add(w.buf)
	}
	w.buf = w.buf[:0]
}

func (w *Writer) behind() bool { return len(w.torn) > 0 || w.lost.records > 0 }

// catchUp writes the rest of a torn record and says what was lost. It reports whether both are written.
func (w *Writer) catchUp() bool {
	rest := len(w.torn)
	head := w.torn
	if w.lost.records > 0 {
		head = appendRecord(head[:rest:rest], w.lost.text(), Stderr, w.config.Attrs, w.stamp)
	}
	n := w.write(head)
	if n > rest {
		w.lost = loss{cause: w.lost.cause} // what was lost is said, at least in part
		rest = len(head)
	}
	w.torn = head[n:max(n, rest)]
	return n == len(head)
}

// lose takes what is left of a buffer of records after a write. The first record may be half written.
func (w *Writer) lose(rest []byte) {
	if len(rest) == 0 {
		return
	}
	if done := w.buf[:len(w.buf)-len(rest)]; len(done) > 0 && done[len(done)-1] != '\n' {
		end := bytes.IndexByte(rest, '\n') + 1
		w.torn, rest = bytes.Clone(rest[:end]), rest[end:]
	}
	w.lost.add(rest)
}

func (l *loss) add(records []byte) {
	l.records += bytes.Count(records, []byte("\n"))
	l.bytes += len(records)
}

// text is the sentence about a loss.
func (l *loss) text() []byte {
	text := strconv.AppendInt([]byte("forge: "), int64(l.records), 10)
	text = append(text, " records of this log, "...)
	text = strconv.AppendInt(text, int64(l.bytes), 10)
	text = append(text, " bytes, were lost: "...)
	return append(append(text, l.cause.Error()...), '\n')
}

// write writes as much as it can, and returns how much that was.
func (w *Writer) write(p []byte) int {
	if w.fd < 0 {
		if err := w.open(); err != nil {
			w.lost.cause = err
			return 0
		}
	}
	done := 0
	for done < len(p) {
		n, err := syscall.Write(w.fd, p[done:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			w.lost.cause = err
			break
		}
		done += n
	}
	w.size += int64(done)
	return done
}

// rotate begins a new file.
func (w *Writer) rotate() {
	if len(w.torn) > 1 { // its beginning stays where it is
		w.lost.add(w.torn)
	}
	w.torn = nil
	if w.fd >= 0 {
		_ = syscall.Close(w.fd)
		w.fd = -1
	}
	w.old.shift()
	_ = w.open() // or else when there is something to write
	w.size = 0   // of what was begun, also if it cannot be: the archive moves on once for each file, and not for each record that is lost
	if w.config.Compress {
		w.old.compress()
	}
}

// Close writes what is left, as if both streams had ended, and waits until no file is being compressed any more.
func (w *Writer) Close() {
	if w == nil {
		return
	}
	w.End(Stdout, w.at)
	w.End(Stderr, w.at)
	w.Flush()
	if w.fd >= 0 {
		_ = syscall.Close(w.fd)
		w.fd = -1
	}
	w.old.wait()
}
