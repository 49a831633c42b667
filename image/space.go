package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// ErrFull means that going on would leave less free space than max(1 GiB, 5 %) of the file system.
var ErrFull = errors.New("too little free space")

// isFull reports whether there is no space left, on the disk or for us.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

const checkEvery = 64 << 20 // bytes written between two looks at the free space

// An output counts and hashes what goes to w. It stops when its context ends or the file system is about to be full: what an
// archive unpacks to has no other limit. The first look at the free space comes after checkEvery bytes, so small blobs never pay
// for one and a full disk still takes a manifest.
type output struct {
	ctx  context.Context
	w    io.Writer
	hash hash.Hash // nil hashes nothing
	n    int64     // bytes written

	free  func(dir string) (free, total uint64, err error) // of the file system; nil does not look
	dir   string
	since int // bytes since the last look
}

// output is an output to a file of the layout.
func (l *Layout) output(ctx context.Context, w io.Writer) *output {
	return &output{ctx: ctx, w: w, hash: sha256.New(), free: l.free, dir: l.root}
}

// Guard returns a writer that stops when ctx ends or when the layout's file system is about to be full. It is for files
// in [Layout.Staging] whose size an archive or a server decides.
func (l *Layout) Guard(ctx context.Context, w io.Writer) io.Writer {
	return &output{ctx: ctx, w: w, free: l.free, dir: l.root}
}

// Temporary makes a temporary file that has no name, and what writes to it: that stops when ctx ends or when its file system is about to be
// full. It is for what has a size that others decide and does not get into a layout.
func Temporary(ctx context.Context) (f *os.File, w io.Writer, err error) {
	if f, err = os.CreateTemp("", "forge-"); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, &output{ctx: ctx, w: f, free: freeSpace, dir: filepath.Dir(f.Name())}, nil
}

// is compares what was written with the diffID that a layer is said to have.
func (o *output) is(diffID digest.Digest) error {
	if got := sumDigest(o.hash); got != diffID {
		return fmt.Errorf("tar has digest %s, not the diffID %s", got, diffID)
	}
	return nil
}

func (o *output) Write(p []byte) (int, error) {
	if o.ctx.Err() != nil {
		return 0, context.Cause(o.ctx)
	}
	if o.since += len(p); o.free != nil && o.since >= checkEvery {
		o.since = 0
		if err := checkSpace(o.dir, o.free); err != nil {
			return 0, err
		}
	}
	n, err := o.w.Write(p)
	if o.hash != nil {
		o.hash.Write(p[:n])
	}
	o.n += int64(n)
	return n, err
}

// CheckSpace looks at the free space as [Layout.Guard] does, for what passes no such writer on its way to the staging area.
func (l *Layout) CheckSpace() error { return checkSpace(l.root, l.free) }

func checkSpace(dir string, free func(dir string) (free, total uint64, err error)) error {
	left, total, err := free(dir)
	if err == nil && left < max(1<<30, total/20) {
		err = fmt.Errorf("%s: %w: %d MiB of %d MiB", dir, ErrFull, left>>20, total>>20)
	}
	return err
}

func freeSpace(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}
