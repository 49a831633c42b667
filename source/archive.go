package source

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// Limits of what an archive may say. Everything else has the size of what is unpacked, which the store's free space
// limits.
const (
	maxArchiveEntries = 10_000_000
)

// An Archive is an uncompressed tar that can be read at any place. Close it when what was unpacked has been committed.
type Archive struct {
	r       io.ReaderAt
	size    int64
	closers closers.Stack
}

// Close gives back the file that holds the archive.
func (a *Archive) Close() error { return a.closers.Close() }

// An Unpacking is where an archive goes. Names and links in the archive mean what they mean with Root as the root.
type Unpacking struct {
	Changes *snapshot.Changes
	Root    string // in Changes, a directory with links resolved
	Owner   *Owner // of all that is unpacked; nil keeps the archive's
}

// An Owner owns files.
type Owner struct{ UID, GID uint32 }

// Unpack puts what is in the archive into changes. Contents are read when the changes are committed.
func (a *Archive) Unpack(ctx context.Context, to Unpacking) error {
	u := unpacker{to, a}
	return a.each(ctx, u.add)
}

// each calls fn for every entry, with where it begins. A tar that ends before its entries do fails.
func (a *Archive) each(ctx context.Context, fn func(h *tar.Header, at int64) error) error {
	start := int64(0)
	section := io.NewSectionReader(readAtFunc(func(p []byte, off int64) (int, error) {
		if ctx.Err() != nil { // headers without entries may be as many as there is space
			return 0, context.Cause(ctx)
		}
		return a.r.ReadAt(p, off)
	}), 0, a.size)
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
		if err := fn(h, start); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
		if start, err = a.after(section, h, start); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// after is where the entry after h, which begins at start, begins.
func (a *Archive) after(section *io.SectionReader, h *tar.Header, start int64) (at int64, err error) {
	if isSparse(h) {
		at, err = a.afterSparse(start)
	} else if at, err = section.Seek(0, io.SeekCurrent); h.Typeflag == tar.TypeReg {
		at += h.Size
	}
	if err == nil && at > a.size {
		err = io.ErrUnexpectedEOF
	}
	return (at + 511) &^ 511, err
}

// afterSparse is where a sparse file ends: what it takes in the archive is not its size, which may be anything.
func (a *Archive) afterSparse(start int64) (int64, error) {
	ended := false
	p := layertar.NewParser(func(*layertar.Header) error {
		ended = true
		return nil
	})
	for !ended {
		b := make([]byte, p.Need)
		if n, err := a.r.ReadAt(b, start+p.Off); n < len(b) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if err := p.Take(b); err != nil {
			return 0, err
		}
	}
	return start + p.Off, nil
}

// OpenAt opens the content of the entry whose headers begin at a place. The headers are read again: only that way the map
// of a sparse file is heeded.
func (a *Archive) OpenAt(at int64) (io.ReadCloser, error) {
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
	to   Unpacking
	from *Archive
}

// add puts one entry.
func (u *unpacker) add(h *tar.Header, at int64) error {
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
	switch {
	case name != ".":
	case path.Clean(h.Name) == ".": // as in BuildKit, whatever it is
		return nil
	case h.Typeflag != tar.TypeDir:
		return errors.New("the root can only be a directory")
	case path.Clean(h.Name) == "/": // which BuildKit takes for the destination, and what is relative not
		e, err := entryOf(h, u.to.Owner)
		if err != nil {
			return err
		}
		return u.to.Changes.Put(u.to.Root, e, snapshot.Content{})
	default:
		return nil
	}
	dir, err := u.parent(path.Dir(name), h.ModTime)
	if err != nil {
		return err
	}
	target := path.Join(dir, path.Base(name))
	there, ok, err := u.lookup(target)
	if err != nil {
		return err
	}
	if ok && (!isDir(&there) || h.Typeflag != tar.TypeDir) {
		if h.Typeflag == tar.TypeLink { // of itself, or of something in what it replaces
			if from, err := u.source(h.Linkname); err != nil || from == target {
				return err
			}
		}
		if err := u.to.Changes.Remove(target); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return u.link(target, h.Linkname)
	}
	e, err := entryOf(h, u.to.Owner)
	if err != nil {
		return err
	}
	e.Name = path.Base(target)
	var content snapshot.Content
	if e.Mode&syscall.S_IFMT == syscall.S_IFREG && e.Size > 0 {
		content.Archive, content.At = u.from, at
	}
	return u.to.Changes.Put(target, e, content)
}

// lookup finds what is at p of the changes, if anything is.
func (u *unpacker) lookup(p string) (e filetree.Entry, ok bool, err error) {
	e, err = u.to.Changes.Lookup(p)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	return e, err == nil, err
}

// checkName refuses names that no file system has.
func checkName(name string) error {
	if len(name) > filetree.MaxPath {
		return fmt.Errorf("a name of %d bytes: %w", len(name), syscall.ENAMETOOLONG)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return errors.New("a name with a zero byte")
	}
	for elem := range strings.SplitSeq(name, "/") {
		if len(elem) > filetree.MaxName {
			return fmt.Errorf("a name of %d bytes: %w", len(elem), syscall.ENAMETOOLONG)
		}
	}
	return nil
}

// lstat looks a name of the archive up; links in it must have been followed.
func (u *unpacker) lstat(name string) (filetree.Entry, error) {
	return u.to.Changes.Lookup(filetree.Join(u.to.Root, name))
}

// parent makes the missing directories of a name, and returns where it is with links followed beneath the archive's root.
func (u *unpacker) parent(name string, mtime time.Time) (string, error) {
	at, err := filetree.Resolve(u.lstat, name)
	var missing []string
	if errors.Is(err, fs.ErrNotExist) {
		at, missing, err = u.missing(name, at)
	}
	if err == nil {
		var e filetree.Entry
		if e, err = u.lstat(at); err == nil && !isDir(&e) {
			err = syscall.ENOTDIR
		}
	}
	if err != nil {
		return "", &fs.PathError{Op: "mkdir", Path: path.Join("/", u.to.Root, name), Err: err}
	}
	for _, elem := range missing {
		at = filetree.Join(at, elem)
		dir := filetree.Entry{Name: elem, Mode: syscall.S_IFDIR | 0o755, Nlink: 2, ModTime: mtime}
		if err := u.to.Changes.Put(filetree.Join(u.to.Root, at), dir, snapshot.Content{}); err != nil {
			return "", err
		}
	}
	return filetree.Join(u.to.Root, at), nil
}

// missing cuts what a name resolves to, which is not there, into the directory that is there and what is missing in it. If that is not the
// end of the name, a link names what is missing, which is an error.
func (u *unpacker) missing(name, resolved string) (dir string, missing []string, err error) {
	elems := strings.Split(resolved, "/")
	there := sort.Search(len(elems), func(n int) bool {
		_, err := u.lstat(path.Join(elems[:n+1]...))
		return err != nil
	})
	dir, missing = path.Join(".", path.Join(elems[:there]...)), elems[there:]
	begin, ok := strings.CutSuffix("/"+name, "/"+path.Join(missing...))
	if !ok {
		return "", nil, syscall.ENOENT
	}
	if at, err := filetree.Resolve(u.lstat, begin); err != nil || at != dir {
		return "", nil, syscall.ENOENT
	}
	return dir, missing, nil
}

// source is where the file is that a hard link names; only its directories may be links.
func (u *unpacker) source(linkname string) (string, error) {
	dir, base := filetree.Split(strings.TrimRight(linkname, "/"))
	dir, err := filetree.Resolve(u.lstat, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // else the file is missing, too
		return "", fmt.Errorf("link to %q: %w", linkname, err)
	}
	return path.Join(u.to.Root, inTree(path.Join(dir, base))), nil
}

// link makes target one more name of a file that is there.
func (u *unpacker) link(target, linkname string) error {
	from, err := u.source(linkname)
	if err != nil {
		return err
	}
	e, err := u.to.Changes.Lookup(from)
	if err != nil {
		return fmt.Errorf("link to %q: %w", linkname, err)
	}
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return fmt.Errorf("link to %q: %w", linkname, syscall.EPERM)
	case syscall.S_IFREG:
		return u.to.Changes.Link(target, from)
	}
	e.Name = path.Base(target)
	return u.to.Changes.Put(target, e, snapshot.Content{})
}
