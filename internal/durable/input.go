package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/closers"
)

// Input opens a file for reading that the user has named. It may be a pipe or a device. When ctx ends, opening and reading
// end, too, even if nobody writes to the pipe.
func Input(ctx context.Context, path string) (io.ReadCloser, error) {
	if n, ok := descriptor(path); ok {
		f, err := inherited(path, n, unix.O_RDONLY)
		if err != nil {
			return nil, err
		}
		return closers.Reader{Reader: Patient(ctx, f), Closer: f}, nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().IsRegular() {
		// Should it be a pipe by now, this does not wait.
		return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if st.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: unix.EISDIR}
	}
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.Open(path)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, r.err
		}
		return closers.Reader{Reader: Patient(ctx, r.f), Closer: r.f}, nil
	case <-ctx.Done():
		go func() { // should somebody open the other end after all
			if r := <-opened; r.f != nil {
				_ = r.f.Close()
			}
		}()
		return nil, fmt.Errorf("%s: nobody has opened the pipe for writing: %w", path, context.Cause(ctx))
	}
}

// ReadInput reads a file that the user has named, of at most limit bytes. A longer one is an error.
func ReadInput(ctx context.Context, path string, limit int64) (_ []byte, err error) {
	f, err := Input(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: has more than %d bytes", path, limit)
	}
	return data, err
}

// Patient reads from r, such as standard input, and waits for whoever writes until ctx ends.
func Patient(ctx context.Context, r io.Reader) io.Reader { return &patientReader{ctx, r} }

type patientReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *patientReader) Read(p []byte) (int, error) {
	buf := make([]byte, min(len(p), 64<<10))
	n, err := patiently(r.ctx, func() (int, error) { return r.r.Read(buf) })
	return copy(p, buf[:n]), err
}

// patiently reads or writes, and waits for it until ctx ends. It is for pipes and devices, whose read(2) and write(2) cannot be interrupted:
// what hangs in the kernel is left there.
func patiently(ctx context.Context, do func() (int, error)) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := do()
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// OpenRegular opens a file for reading that was found, as in a directory that another program has written. If it is no
// regular file it is an error, and nothing waits for the other end of a pipe.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, unix.ENXIO) { // a socket
			err = fmt.Errorf("%s is no regular file", path)
		}
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
