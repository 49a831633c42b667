package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// errChanged tells that a file is no longer what the walk found.
var errChanged = errors.New("changed while the build read it; build again, or hide it with .dockerignore")

// openFile opens the regular file f of n, which must be what it was when its directory was read.
func (d *Dir) openFile(f *dirFile, n *dirNode) (*dirReader, error) {
	name := f.name
	if n != nil {
		name = path.Join(n.path, f.name)
	}
	if f.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	r := &dirReader{fd: -1, name: name, want: f}
	if f.ino == 0 { // was a socket
		return r, nil
	}
	fd, err := d.openIn(n, f.name)
	if err != nil {
		return nil, err
	}
	r.fd = fd
	if err := r.check(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// openat opens a name beneath the root in which nothing may be a link.
func (d *Dir) openat(name string, flags int) (int, error) {
	fd, err := openat.Beneath(d.root, name, flags)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// A dirReader reads a file and fails when it turns out to have changed. It holds to the size that was promised.
type dirReader struct {
	fd   int
	name string
	want *dirFile
	off  int64
}

// check compares the file with what the walk found.
func (r *dirReader) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: r.name, Err: err}
	}
	if st.Ino != r.want.ino || st.Size != r.want.size || st.Mode != r.want.mode ||
		st.Mtim.Nano() != r.want.mtime || st.Ctim.Nano() != r.want.ctime {
		return fmt.Errorf("%s: %w", r.name, errChanged)
	}
	return nil
}

// Open implements [filetree.Tree]. Reading fails if the file is no longer what the walk found.
func (d *Dir) Open(name string) (filetree.File, error) {
	f, n, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	d.tools.opened.Do(d.stats.rest)
	return d.openFile(f, n)
}

// Read implements io.Reader. The last bytes are given only after the file has proved not to have changed meanwhile.
func (r *dirReader) Read(p []byte) (int, error) {
	left := r.want.size - r.off
	if left <= 0 || r.fd < 0 {
		return 0, io.EOF
	}
	n, err := r.ReadAt(p[:min(int64(len(p)), left)], r.off)
	r.off += int64(n)
	if err == nil && r.off == r.want.size {
		err = r.check()
	}
	return n, err
}

// ReadAt implements io.ReaderAt. It does not look for changes.
func (r *dirReader) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) && r.fd >= 0 {
		n, err := unix.Pread(r.fd, p[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return done, &fs.PathError{Op: "read", Path: r.name, Err: err}
		case n == 0 && off+int64(done) < r.want.size:
			return done, fmt.Errorf("%s: %w", r.name, errChanged)
		case n == 0:
			return done, io.EOF
		}
		done += n
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Close implements io.Closer.
func (r *dirReader) Close() error {
	if r.fd < 0 {
		return nil
	}
	fd := r.fd
	r.fd = -1
	if err := unix.Close(fd); err != nil {
		return &fs.PathError{Op: "close", Path: r.name, Err: err}
	}
	return nil
}

// Sum implements [filetree.Tree].
func (d *Dir) Sum(ctx context.Context, name string) (filetree.Sum, error) {
	f, n, err := d.find("digest", name)
	if err != nil {
		return filetree.Sum{}, err
	}
	if sum := d.known(f); sum != nil {
		return *sum, nil
	}
	buf, ok := d.tools.buffers.Get().(*[hashBuffer]byte)
	if !ok {
		buf = new([hashBuffer]byte)
	}
	defer d.tools.buffers.Put(buf)
	return d.hash(ctx, f, n, buf[:])
}

// known is the digest of f if it is remembered, and nil otherwise. It lies where it is remembered and may be read until
// the Dir is closed.
func (d *Dir) known(f *dirFile) *filetree.Sum {
	switch at := atomic.LoadUint32(&f.sum); {
	case at == 0:
		return nil
	case at <= d.stats.count():
		return d.stats.sum(at - 1)
	default:
		d.mu.Lock()
		defer d.mu.Unlock()
		return &d.sums[^at].sum // an older array keeps its content when sums grows
	}
}

// hashBuffer is how much of a file is read at once: enough to make system calls cheap, little enough for the cache.
const hashBuffer = 128 << 10

// hash reads f and remembers its digest.
func (d *Dir) hash(ctx context.Context, f *dirFile, n *dirNode, buf []byte) (sum filetree.Sum, err error) {
	begun := d.now()
	r, err := d.openFile(f, n)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if sum, err = filetree.SumOf(ctx, r, buf); err != nil {
		return sum, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sums = append(d.sums, sumRecord{dirKey: f.key(), sum: sum, safe: f.ino != 0 && settled(f.ctime, begun)})
	atomic.StoreUint32(&f.sum, ^uint32(len(d.sums)-1))
	return sum, nil
}
