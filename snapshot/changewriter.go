package snapshot

import (
	"bytes"
	"errors"
	"io"
)

// A changeWriter writes what changes in a tree as a layer: each change after the directories that lead to it, as they are,
// since in a stack of directories the topmost says whose they are.
type changeWriter struct {
	layer changeSink
	way   []*wayDir // directories on the way to where the caller is
	bufs  [2][]byte // see buf
}

// A changeSink takes changes, as a *layerWriter does.
type changeSink interface {
	Add(path string, e Entry, open func() (io.ReadCloser, error)) error
	Link(path, target string) error
	Whiteout(path string) error
}

// A wayDir is a directory that is written before the first change in it, or because it is one.
type wayDir struct {
	path  string
	entry Entry
	whole bool // what lies below and is not here is removed
	done  bool // it is in the layer, or has not to be
}

// enter goes down into a directory; leave comes back.
func (w *changeWriter) enter(d *wayDir) { w.way = append(w.way, d) }

func (w *changeWriter) leave() { w.way = w.way[:len(w.way)-1] }

// flush writes the directories that lead here.
func (w *changeWriter) flush() error {
	for _, d := range w.way {
		if d.done {
			continue
		}
		d.done = true
		if err := w.layer.Add(d.path, d.entry, nil); err != nil {
			return err
		}
	}
	return nil
}

// whiteout removes what lies below path.
func (w *changeWriter) whiteout(path string) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.layer.Whiteout(path)
}

const bufSize = 128 << 10

// buf is one of two buffers for whoever needs one for a moment.
func (w *changeWriter) buf(i int) []byte {
	if w.bufs[i] == nil {
		w.bufs[i] = make([]byte, bufSize)
	}
	return w.bufs[i]
}

// same reports whether two readers, which it closes, give the same size bytes.
func (w *changeWriter) same(a, b io.ReadCloser, size int64) (same bool, err error) {
	defer func() { err = errors.Join(err, a.Close(), b.Close()) }()
	for left := size; left > 0; {
		x, y := w.buf(0)[:min(left, bufSize)], w.buf(1)[:min(left, bufSize)]
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if n < len(x) || m < len(y) || !bytes.Equal(x, y) {
			return false, nil
		}
		left -= int64(n)
	}
	return true, nil
}
