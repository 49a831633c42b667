package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// Export writes a whole tree as a plain tar, which unpacks to it anywhere: without whiteouts, names as they are, hard
// links kept, sockets left out, the root directory itself not in it. Equal trees give equal bytes.
func Export(ctx context.Context, tree Tree, w io.Writer) error {
	return newExporter(tree, w).export(ctx)
}

// ExportContents is Export of what a directory holds, with an entry "./" for itself before it and names that begin so: by these who unpacks
// it knows that it is no directory of that name that is unpacked, and what the directory is.
func ExportContents(ctx context.Context, tree Tree, w io.Writer) error {
	x := newExporter(tree, w)
	x.self = "."
	return x.export(ctx)
}

func newExporter(tree Tree, w io.Writer) *exporter {
	return &exporter{tree: tree, w: bufio.NewWriterSize(w, 256<<10), links: make(map[uint64]string)}
}

func (x *exporter) export(ctx context.Context) error {
	if err := filetree.Walk(ctx, x.tree, ".", x.add); err != nil {
		return err
	}
	if _, err := x.w.Write(make([]byte, 2*layertar.Block)); err != nil {
		return err
	}
	return x.w.Flush()
}

type exporter struct {
	tree   Tree
	w      *bufio.Writer
	self   string            // what the root directory is called; "" if it is not written
	links  map[uint64]string // inode → the name it was written under
	header []byte
	buf    []byte
}

func (x *exporter) add(path string, e *Entry, _ *filetree.Sum) error {
	if path == "." && x.self == "" || e.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	if err := x.entry(path, e); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (x *exporter) entry(path string, e *Entry) (err error) {
	target, name := "", path
	if x.self != "" && path != "." {
		name = x.self + "/" + path
	}
	if e.Nlink > 1 && e.Mode&unix.S_IFMT != unix.S_IFDIR {
		if target = x.links[e.Inode]; target == "" {
			x.links[e.Inode] = name
		}
	}
	if x.header, err = layertar.AppendHeader(x.header[:0], name, e, target); err != nil {
		return err
	}
	if _, err := x.w.Write(x.header); err != nil {
		return err
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || target != "" || e.Size == 0 {
		return nil
	}
	r, err := x.tree.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(x.content(r, e.Size), r.Close())
}

// content writes what a file holds, padded.
func (x *exporter) content(r io.Reader, size int64) error {
	if x.buf == nil {
		x.buf = make([]byte, 256<<10)
	}
	// Without the wrapper the copy would go round the buffer, in pieces of another size.
	n, err := io.CopyBuffer(struct{ io.Writer }{x.w}, io.LimitReader(r, size), x.buf)
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("has %d of its %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	_, err = x.w.Write(make([]byte, layertar.Padded(size)-size))
	return err
}

// ExportDir writes a tree into a directory of this machine, which is made if it is missing. What is there stays, but for
// names that the tree has too: directories are merged, anything else is replaced. The files belong to the caller. Nothing
// is written outside of the directory, whatever links are in it or in the tree. Devices are left out where they cannot be
// made, attributes where they cannot be kept. What comes from elsewhere should be a [Plain] tree.
func ExportDir(ctx context.Context, tree Tree, path string) (err error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	root, err := tree.Lstat(".")
	if err != nil {
		return err
	}
	u := newUnpacker(ctx, int(dir.Fd()), readRights())
	u.merge = true
	if err := u.unpack(unpackTree(tree, ".", root)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// CopyDir copies a directory of a tree into an open directory, which is empty: what is in it, links among them kept, and its
// own owner, mode and attributes. Owners that this user namespace does not have become root, and devices are left out where they
// cannot be made.
func (s *Store) CopyDir(ctx context.Context, tree Tree, name string, dir *os.File) error {
	e, err := tree.Lstat(name)
	if err != nil {
		return err
	}
	if e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &os.PathError{Op: "copy", Path: name, Err: unix.ENOTDIR}
	}
	return newUnpacker(ctx, int(dir.Fd()), s.rights()).unpack(unpackTree(tree, name, e))
}
