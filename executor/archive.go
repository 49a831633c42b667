package executor

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Limits of what an archive may say. Everything else has the size of what is unpacked, which the store's free space
// limits.
const (
	maxArchiveEntries = 10_000_000
	maxNameLen        = 4096
	maxElemLen        = 255
)

// An archive is an uncompressed tar that can be read at any place.
type archive struct {
	r    io.ReaderAt
	size int64
}

// unpack puts what is in an archive into the changes, if the selection is one; it is told by its content. Names and links
// in it mean what they mean with dest as the root.
func (w *Local) unpack(ctx context.Context, sel *selection, dest string, c *copier, open *closers) (bool, error) {
	if sel.entry.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return false, nil
	}
	if ok, err := isArchive(sel); err != nil || !ok {
		return false, err
	}
	a, err := w.openArchive(ctx, sel, open)
	if err != nil {
		return false, err
	}
	root, err := c.resolve(dest)
	if err != nil {
		return false, err
	}
	if err := c.mkdirAll(root, syscall.S_IFDIR|0o755, sel.entry.ModTime); err != nil {
		return false, err
	}
	c.groups++
	u := unpacker{c: c, root: root, group: fmt.Sprint("archive ", c.groups), files: make(map[string]unpacked)}
	return true, a.each(ctx, u.add)
}

// isArchive tells whether a file, compressed or not, begins with an entry of a tar. An empty tar is a file like others.
func isArchive(sel *selection) (bool, error) {
	f, err := sel.tree.Open(sel.root)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // read only
	content, _, err := image.Inflate(f)
	if err != nil {
		return false, nil
	}
	defer content.Close() //nolint:errcheck // read only
	_, err = tar.NewReader(content).Next()
	return err == nil, nil
}

// openArchive makes the tar of an archive readable at any place: a compressed one is inflated to a file that has no name
// and goes with the step.
func (w *Local) openArchive(ctx context.Context, sel *selection, open *closers) (*archive, error) {
	f, err := sel.tree.Open(sel.root)
	if err != nil {
		return nil, err
	}
	content, compressed, err := image.Inflate(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if r, ok := f.(io.ReaderAt); ok && !compressed {
		open.add(f.Close)
		return &archive{r: r, size: sel.entry.Size}, nil
	}
	open.add(f.Close)
	open.add(content.Close)
	return w.spool(ctx, content, open)
}

// spool writes a stream to a staged file that is never committed.
func (w *Local) spool(ctx context.Context, r io.Reader, open *closers) (*archive, error) {
	f, err := w.Layout.Staging().Create()
	if err != nil {
		return nil, err
	}
	open.add(f.Close)
	n, err := io.CopyBuffer(w.Layout.Guard(ctx, f), struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err != nil {
		return nil, err
	}
	return &archive{r: f, size: n}, nil
}

// each calls fn for every entry, with a function that opens its content. A tar that ends before its entries do fails.
func (a *archive) each(ctx context.Context, fn func(h *tar.Header, open func() (io.ReadCloser, error)) error) error {
	start := int64(0)
	section := io.NewSectionReader(a.r, 0, a.size)
	tr := tar.NewReader(section)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == maxArchiveEntries {
			return fmt.Errorf("more than %d entries", maxArchiveEntries)
		}
		at := start
		if err := fn(h, func() (io.ReadCloser, error) { return a.open(at) }); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
		if start, err = a.after(section, tr, h); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// after is where the entry after h begins.
func (a *archive) after(section *io.SectionReader, tr *tar.Reader, h *tar.Header) (int64, error) {
	if isSparse(h) { // what it takes in the archive is not its size
		if _, err := io.Copy(io.Discard, tr); err != nil {
			return 0, err
		}
	}
	at, err := section.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if h.Typeflag == tar.TypeReg && !isSparse(h) {
		at += h.Size
	}
	if at > a.size {
		return 0, io.ErrUnexpectedEOF
	}
	return (at + 511) &^ 511, nil
}

// open reads the content of the entry whose headers begin at a place. The headers are read again: only that way the map
// of a sparse file is heeded.
func (a *archive) open(at int64) (io.ReadCloser, error) {
	tr := tar.NewReader(bufio.NewReaderSize(io.NewSectionReader(a.r, at, a.size-at), 64<<10))
	if _, err := tr.Next(); err != nil {
		return nil, err
	}
	return io.NopCloser(tr), nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// An unpacker puts the entries of one archive into changes.
type unpacker struct {
	c     *copier
	root  string // where "/" of the archive is
	group string // of hard links
	inode uint64 // last given
	files map[string]unpacked
}

// An unpacked is a regular file that a hard link may name.
type unpacked struct {
	entry   snapshot.Entry
	content snapshot.Content
}

// add puts one entry.
func (u *unpacker) add(h *tar.Header, open func() (io.ReadCloser, error)) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := checkName(h.Name); err != nil {
		return err
	}
	if err := checkName(h.Linkname); err != nil {
		return err
	}
	name := inTree(h.Name)
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root can only be a directory")
		}
		return nil // the destination keeps its mode and owner
	}
	dir, err := u.parent(path.Dir(name), h.ModTime)
	if err != nil {
		return err
	}
	target := path.Join(dir, path.Base(name))
	there, ok, err := u.c.lookup(target)
	if err != nil {
		return err
	}
	if ok && (!isDir(&there) || h.Typeflag != tar.TypeDir) {
		if h.Typeflag == tar.TypeLink { // of itself, or of something in what it replaces
			if from, err := u.source(h.Linkname); err != nil || from == target {
				return err
			}
		}
		if err := u.c.changes.Remove(target); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return u.link(target, h.Linkname)
	}
	e, err := entryOf(h, u.c.owner)
	if err != nil {
		return err
	}
	e.Name = path.Base(target)
	var content snapshot.Content
	if e.Mode&syscall.S_IFMT == syscall.S_IFREG {
		u.inode++
		e.Inode = u.inode
		content = snapshot.Content{Open: open, Group: u.group}
		u.files[target] = unpacked{e, content}
	}
	return u.c.changes.Put(target, e, content)
}

// checkName refuses names that no file system has.
func checkName(name string) error {
	if len(name) > maxNameLen {
		return fmt.Errorf("a name of %d bytes: %w", len(name), syscall.ENAMETOOLONG)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return errors.New("a name with a zero byte")
	}
	for elem := range strings.SplitSeq(name, "/") {
		if len(elem) > maxElemLen {
			return fmt.Errorf("a name of %d bytes: %w", len(elem), syscall.ENAMETOOLONG)
		}
	}
	return nil
}

// lstat looks a name of the archive up; links in it must have been followed.
func (u *unpacker) lstat(name string) (snapshot.Entry, error) {
	return u.c.changes.Lookup(path.Join(u.root, name))
}

// parent makes the missing directories of a name, and returns where it is with links followed beneath the archive's root.
func (u *unpacker) parent(name string, mtime time.Time) (string, error) {
	at := "."
	if name == "." {
		return u.root, nil
	}
	for elem := range strings.SplitSeq(name, "/") {
		next := path.Join(at, elem)
		e, err := u.lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			dir := snapshot.Entry{Name: elem, Mode: syscall.S_IFDIR | 0o755, Nlink: 2, ModTime: mtime}
			if err := u.c.changes.Put(path.Join(u.root, next), dir, snapshot.Content{}); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case e.Mode&syscall.S_IFMT == syscall.S_IFLNK:
			if next, err = filetree.Resolve(u.lstat, next, true); err != nil {
				return "", err
			}
			if e, err = u.lstat(next); err != nil {
				return "", err
			}
			fallthrough
		default:
			if !isDir(&e) {
				return "", &fs.PathError{Op: "mkdir", Path: "/" + path.Join(u.root, next), Err: syscall.ENOTDIR}
			}
		}
		at = next
	}
	return path.Join(u.root, at), nil
}

// source is where the file is that a hard link names; only its directories may be links.
func (u *unpacker) source(linkname string) (string, error) {
	p, err := filetree.Resolve(u.lstat, linkname, false)
	if err != nil {
		return "", fmt.Errorf("link to %q: %w", linkname, err)
	}
	return path.Join(u.root, p), nil
}

// link makes target one more name of a file that is there.
func (u *unpacker) link(target, linkname string) error {
	from, err := u.source(linkname)
	if err != nil {
		return err
	}
	e, err := u.c.changes.Lookup(from)
	if err != nil {
		return fmt.Errorf("link to %q: %w", linkname, err)
	}
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return fmt.Errorf("link to %q: %w", linkname, syscall.EPERM)
	case syscall.S_IFREG:
	default:
		e.Name = path.Base(target)
		return u.c.changes.Put(target, e, snapshot.Content{})
	}
	f, ok := u.files[from]
	if !ok {
		// It was there before: it is written again, so that both names are of one file in this layer.
		old, err := u.c.lookupBelow(from)
		if err != nil {
			return fmt.Errorf("link to %q, which another source of the same instruction wrote: %w", linkname, err)
		}
		u.inode++
		old.Inode = u.inode
		f = unpacked{old, snapshot.Content{Group: u.group, Open: func() (io.ReadCloser, error) { return u.c.below.Open(from) }}}
		if err := u.c.changes.Put(from, f.entry, f.content); err != nil {
			return err
		}
		u.files[from] = f
	}
	f.entry.Name = path.Base(target)
	u.files[target] = f
	return u.c.changes.Put(target, f.entry, f.content)
}
