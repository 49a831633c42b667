package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// ErrFull means that going on would leave less free space than max(1 GiB, 5 %) of the file system.
var ErrFull = errors.New("too little free space")

// isFull tells whether there is no space left, on the disk or for us.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

const checkEvery = 64 << 20 // bytes written between two looks at the free space

// A guarded writer stops when its context ends or the file system is about to be full: what an archive unpacks to has
// no other limit. The first look comes after checkEvery bytes, so small blobs never pay for one and a full disk still
// takes a manifest.
type guarded struct {
	ctx   context.Context
	w     io.Writer
	free  func(dir string) (free, total uint64, err error)
	dir   string
	since int
}

func (g *guarded) Write(p []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, context.Cause(g.ctx)
	}
	if g.since += len(p); g.since >= checkEvery {
		g.since = 0
		free, total, err := g.free(g.dir)
		if err != nil {
			return 0, err
		}
		if free < max(1<<30, total/20) {
			return 0, fmt.Errorf("%s: %w: %d MiB of %d MiB", g.dir, ErrFull, free>>20, total>>20)
		}
	}
	return g.w.Write(p)
}

func freeSpace(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}
