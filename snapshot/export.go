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
func Export(ctx context.Context, tree Tree, w io.Writer) error { return exportTo(ctx, tree, "", w) }

// ExportContents is Export of what a directory holds, with an entry "./" for itself before it and names that begin so: by these who unpacks
// it knows that it is no directory of that name that is unpacked, and what the directory is.
func ExportContents(ctx context.Context, tree Tree, w io.Writer) error {
	return exportTo(ctx, tree, ".", w)
}

// ExportParts is Export for who reads the files: emit gets the parts of the tar in their order. Each is the header of an entry, valid until emit
// returns, and as many bytes of its file, which the tree opens under the path, filled up with zeros to whole blocks ([layertar.Padded]). The
// last part, without an entry, is the end of the tar.
func ExportParts(ctx context.Context, tree Tree, emit func(path string, e *Entry, header []byte, content int64) error) error {
	x := &exporter{emit: emit, links: make(map[uint64]string)}
	return x.export(ctx, tree)
}

func exportTo(ctx context.Context, tree Tree, self string, w io.Writer) error {
	to := &tarWriter{tree: tree, w: bufio.NewWriterSize(w, 256<<10)}
	x := &exporter{self: self, emit: to.part, links: make(map[uint64]string)}
	if err := x.export(ctx, tree); err != nil {
		return err
	}
	return to.w.Flush()
}

type exporter struct {
	self   string // what the root directory is called; "" if it is not written
	emit   func(path string, e *Entry, header []byte, content int64) error
	links  map[uint64]string // inode → the name it was written under
	header []byte
}

func (x *exporter) export(ctx context.Context, tree Tree) error {
	if err := filetree.Walk(ctx, tree, ".", x.add); err != nil {
		return err
	}
	return x.emit("", nil, make([]byte, 2*layertar.Block), 0)
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
	content := e.Size
	if e.Mode&unix.S_IFMT != unix.S_IFREG || target != "" {
		content = 0
	}
	return x.emit(path, e, x.header, content)
}

// A tarWriter writes the parts of a tar.
type tarWriter struct {
	tree Tree
	w    *bufio.Writer
	buf  []byte
}

func (t *tarWriter) part(path string, _ *Entry, header []byte, content int64) error {
	if _, err := t.w.Write(header); err != nil || content == 0 {
		return err
	}
	r, err := t.tree.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(t.content(r, content), r.Close())
}

// content writes what a file holds, padded.
func (t *tarWriter) content(r io.Reader, size int64) error {
	if t.buf == nil {
		t.buf = make([]byte, 256<<10)
	}
	// Without the wrapper the copy would go round the buffer, in pieces of another size.
	n, err := io.CopyBuffer(struct{ io.Writer }{t.w}, io.LimitReader(r, size), t.buf)
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("has %d of its %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	_, err = t.w.Write(make([]byte, layertar.Padded(size)-size))
	return err
}

// ExportDir writes a tree into a directory of this machine or, if sub is not "", into the directory of that name in it. Both are made if they
// are missing. What is there stays, but for names that the tree has too: directories are merged, anything else is replaced, also what has
// the name sub and is no directory. The files belong to the caller. Nothing is written outside of the directory, whatever links are in it or in
// the tree. Devices are left out where they cannot be made, attributes where they cannot be kept. What comes from elsewhere should be
// a [Plain] tree.
func ExportDir(ctx context.Context, tree Tree, path, sub string) (err error) {
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
	if sub != "" {
		if u.root, err = u.makeSub(sub); err != nil {
			return fmt.Errorf("%s/%s: %w", path, sub, err)
		}
		defer func() { err = errors.Join(err, closeFD(u.root)) }()
	}
	if err := u.unpack(unpackTree(tree, ".", root)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// makeSub opens the directory of a name in the root, which it makes in the place of anything else.
func (u *unpacker) makeSub(name string) (fd int, err error) {
	const mode = 0o755
	err = unix.Mkdirat(u.root, name, mode)
	if errors.Is(err, unix.EEXIST) {
		err = u.replaceByDir(u.root, name, &unpackEntry{Entry: Entry{Name: name}}, mode)
	}
	if err != nil {
		return -1, err
	}
	return unix.Openat(u.root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
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
