package source

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"syscall"
)

// A lentFile is the content of a file that was fetched.
type lentFile struct{ *io.SectionReader }

// Close implements io.Closer. The content goes with the tree.
func (f *lentFile) Close() error { return nil }

// A lentWriter takes a file of a known size.
type lentWriter struct {
	file     *os.File
	start    int64
	at, left int64
	hash     hash.Hash
}

// lentCheck is after how many bytes of all files the free space is looked at.
const lentCheck = 64 << 20

// room makes room for so many bytes.
func (t *lentTree) room(size int64) (*lentWriter, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		f, err := t.layout.Staging().Create()
		if err != nil {
			return nil, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		t.file = f.File
	}
	end := t.end + size
	if end < 0 {
		return nil, syscall.EFBIG
	}
	if end/lentCheck > t.end/lentCheck { // a guard for each file would not see many small ones
		if err := t.layout.CheckSpace(); err != nil {
			return nil, err
		}
	}
	w := &lentWriter{file: t.file, start: t.end, at: t.end, left: size, hash: sha256.New()}
	t.end = end
	return w, nil
}

// Write implements io.Writer.
func (w *lentWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, errChanged
	}
	n, err := w.file.WriteAt(p, w.at)
	w.hash.Write(p[:n])
	w.at, w.left = w.at+int64(n), w.left-int64(n)
	return n, err
}
