package snapshot

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Open implements [Tree].
func (v *View) Open(name string) (filetree.File, error) {
	found, err := v.find(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	r, err := v.open1(&found[0])
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return r, nil
}

// open1 opens the content of a file.
func (v *View) open1(f *viewFile) (*contentReader, error) {
	if f.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, unix.EISDIR
	}
	if f.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	l := v.layers[f.layer]
	extents, tar, err := l.index.Extents(&f.Inode)
	if err != nil {
		return nil, err
	}
	r := &contentReader{extents: extents, size: f.Size}
	if len(extents) > 0 {
		r.tar, err = l.tar(tar)
	}
	return r, err
}

// A contentReader reads a file out of its tar. Reads by offset are safe for concurrent use.
type contentReader struct {
	tar     io.ReaderAt
	extents []filetree.Extent
	size    int64
	off     int64
}

func (r *contentReader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (r *contentReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	if off >= r.size {
		return 0, io.EOF
	}
	if int64(len(p)) > r.size-off {
		p, err = p[:r.size-off], io.EOF
	}
	start := int64(0)
	for _, e := range r.extents {
		if n == len(p) {
			break
		}
		in := off + int64(n) - start // where in the filetree.Extent
		if start += e.Size; in >= e.Size {
			continue
		}
		part := p[n:][:min(int64(len(p)-n), e.Size-in)]
		if e.At < 0 {
			clear(part)
			n += len(part)
			continue
		}
		m, e := r.tar.ReadAt(part, e.At+in)
		if n += m; m < len(part) {
			if e == io.EOF {
				e = io.ErrUnexpectedEOF // the tar is shorter than its index says
			}
			return n, e
		}
	}
	return n, err
}

// Close does nothing: the tar is the view's.
func (r *contentReader) Close() error { return nil }

// Sum implements [Tree]. The digest is remembered, beyond this view's life if the content is big.
func (v *View) Sum(ctx context.Context, name string) (sum filetree.Sum, err error) {
	found, err := v.find(name)
	if err != nil {
		return sum, pathError("digest", name, err)
	}
	f := &found[0]
	var sums *sumsFile
	if f.layer >= 0 {
		sums = v.layers[f.layer].sums
	}
	if sums != nil && f.Mode&unix.S_IFMT == unix.S_IFREG {
		if sum, ok := sums.get(f.Slot); ok {
			return sum, nil
		}
	}
	r, err := v.open1(f)
	if err != nil {
		return sum, pathError("digest", name, err)
	}
	if sum, err = filetree.SumOf(ctx, r, make([]byte, min(f.Size+1, 256<<10))); err != nil {
		return sum, pathError("digest", name, err)
	}
	if sums != nil {
		sums.put(f.Slot, sum, f.Size)
	}
	return sum, nil
}
