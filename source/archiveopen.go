package source

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/snapshot/filetree"
)

// IsArchive reports whether a file of a tree, compressed or not, begins with an entry of a tar, whose headers have less than 16 MiB. An
// empty tar is a file like others.
func IsArchive(ctx context.Context, tree filetree.Tree, name string) (bool, error) {
	const headers = 16 << 20
	f, err := tree.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // read only
	content, _, err := image.Inflate(heeding(ctx, f))
	if err == nil {
		defer content.Close() //nolint:errcheck // read only
		_, err = tar.NewReader(io.LimitReader(content, headers)).Next()
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil, nil
}

// heeding is r until ctx ends: what a decompressor, or a reader of headers, does with a long file may take as long without giving anything.
func heeding(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}

type readFunc func(p []byte) (int, error)

// Read implements io.Reader.
func (f readFunc) Read(p []byte) (int, error) { return f(p) }

type readAtFunc func(p []byte, off int64) (int, error)

// ReadAt implements io.ReaderAt.
func (f readAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// OpenArchive opens a tar that is a file of a tree. A compressed one is inflated to a file of layout's staging area that
// has no name and goes with Close.
func OpenArchive(ctx context.Context, layout *image.Layout, tree filetree.Tree, name string) (_ *Archive, err error) {
	e, err := tree.Lstat(name)
	if err != nil {
		return nil, err
	}
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	content, compressed, err := image.Inflate(heeding(ctx, f))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !compressed {
		return &Archive{r: f, size: e.Size, closers: closers.Stack{f.Close}}, nil
	}
	a, err := spoolArchive(ctx, layout, content)
	if err != nil {
		_ = content.Close() // a decompressor says again what it said when it was read
		return nil, errors.Join(err, f.Close())
	}
	a.closers.Push(f.Close)
	a.closers.Push(content.Close)
	return a, nil
}

// spoolArchive writes an uncompressed tar to a file of layout's staging area that has no name and goes with Close.
func spoolArchive(ctx context.Context, layout *image.Layout, r io.Reader) (*Archive, error) {
	f, err := layout.Staging().Create()
	if err != nil {
		return nil, err
	}
	n, err := io.CopyBuffer(layout.Guard(ctx, f), struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Archive{r: f, size: n, closers: closers.Stack{f.Close}}, nil
}
