// Package filetree says what a file tree is: a build context, the layers of an image, a git checkout, a single download.
// It has the types that packages which read and write such trees share, and what can be said of any of them.
package filetree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Limits of a tree that becomes a layer, wherever it comes from.
const (
	MaxPath    = 4096 // bytes of a path, or of the target of a symbolic link
	MaxName    = 255  // bytes of one component
	MaxEntries = 10_000_000
	MaxLinks   = 40 // symbolic links followed on the way to one file, as in the kernel
)

// WhiteoutPrefix begins names that mean in a layer's tar that a file is removed. No file of a tree that becomes a layer can
// have such a name.
const WhiteoutPrefix = ".wh."

var (
	// ErrHidden is the error for a file that is there but that the ignore patterns of the tree exclude. It is
	// fs.ErrNotExist, too.
	ErrHidden = fmt.Errorf("%w (an ignore pattern excludes it)", fs.ErrNotExist)

	// ErrTooMany is the error for a tree or a directory of more than MaxEntries.
	ErrTooMany = fmt.Errorf("more than %d entries", MaxEntries)
)

// An Entry is one file of a tree: its metadata, all but the content.
type Entry struct {
	Name    string // base name; names are bytes
	Mode    uint32 // as of stat(2): type and permission bits with suid, sgid, sticky
	UID     uint32
	GID     uint32
	Size    int64
	ModTime time.Time
	Link    string // target of a symbolic link
	Rdev    uint64 // of a device, as unix.Mkdev
	Nlink   uint32
	Inode   uint64            // equal for hard links of one file within one tree
	Xattrs  map[string]string // those that KeepXattr names; nil if none
	Changed int64             // when it or what is said of it was last changed, ns since the epoch, in a live tree; else 0
}

// UnixTime splits the modification time into seconds and nanoseconds. The zero time is the epoch.
func (e *Entry) UnixTime() (sec int64, nsec uint32) {
	if e.ModTime.IsZero() {
		return 0, 0
	}
	return e.ModTime.Unix(), uint32(e.ModTime.Nanosecond())
}

// A Sum is the SHA-256 of a file's content.
type Sum = [sha256.Size]byte

// A Tree is a file tree to read from. All names are relative to its root, clean, "/"-separated, "." being the root. No
// method follows a link in any component. Safe for concurrent use.
type Tree interface {
	// Lstat describes a file. fs.ErrNotExist if there is none, ErrHidden if there is one that is excluded, ENOTDIR if
	// something on the way is no directory.
	Lstat(name string) (Entry, error)

	// List calls fn for what is in a directory, in order of names as bytes, with the digest of a regular file's content if
	// that is known without reading it, else nil. Entry and digest are valid until fn returns, whose error ends the list.
	List(name string, fn func(e *Entry, sum *Sum) error) error

	// Open opens a regular file.
	Open(name string) (File, error)

	// Sum is the digest of a regular file's content, which may take as long as the file is. The tree remembers it: List gives it from
	// then on.
	Sum(ctx context.Context, name string) (Sum, error)

	// Load prepares to List name and all directories beneath it, where reading them ahead is faster than one after the
	// other; else it does nothing.
	Load(ctx context.Context, name string) error
}

// A File is an open regular file. Reads by offset are safe for concurrent use.
type File interface {
	io.ReadCloser
	io.ReaderAt
}

// ReadDir describes what is in a directory, sorted by name.
func ReadDir(t Tree, name string) ([]Entry, error) {
	var list []Entry
	err := t.List(name, func(e *Entry, _ *Sum) error {
		list = append(list, *e)
		return nil
	})
	return list, err
}

// SumOf is the digest of all that r gives, read by way of buf.
func SumOf(ctx context.Context, r io.Reader, buf []byte) (sum Sum, err error) {
	h := sha256.New()
	for err == nil {
		if ctx.Err() != nil {
			return sum, context.Cause(ctx)
		}
		var n int
		n, err = r.Read(buf)
		h.Write(buf[:n])
	}
	if err != io.EOF {
		return sum, err
	}
	return Sum(h.Sum(nil)), nil
}

// Hash makes the digests of regular files known to their tree, two at a time.
func Hash(ctx context.Context, t Tree, names []string) error {
	next := make(chan string)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(next)
		for _, name := range names {
			select {
			case next <- name:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range 2 {
		g.Go(func() error {
			for name := range next {
				if _, err := t.Sum(ctx, name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// Walk calls fn for what is at name and, if that is a directory, for all that is in it: a directory before what is in it,
// names in order. The path is relative to the root of the tree; the Entry and the digest are those of List, and nil for
// name itself. fs.SkipDir, returned for a directory, leaves out what is in it.
func Walk(ctx context.Context, t Tree, name string, fn func(path string, e *Entry, sum *Sum) error) error {
	e, err := t.Lstat(name)
	if err != nil {
		return err
	}
	return walk(ctx, t, name, &e, nil, fn)
}

func walk(ctx context.Context, t Tree, path string, e *Entry, sum *Sum, fn func(string, *Entry, *Sum) error) error {
	dir := e.Mode&unix.S_IFMT == unix.S_IFDIR // fn may change the entry
	err := fn(path, e, sum)
	if dir && errors.Is(err, fs.SkipDir) {
		return nil
	}
	if err != nil || !dir {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.List(path, func(e *Entry, sum *Sum) error { return walk(ctx, t, Join(path, e.Name), e, sum, fn) })
}

// ModePerm are the bits of Entry.Mode beside the type.
const ModePerm = 0o7777

// KeepXattr reports whether an extended attribute belongs into a layer. The others describe the machine (security.selinux,
// system.posix_acl_*) or would speak to overlayfs (trusted.*, user.overlay.*).
func KeepXattr(name string) bool {
	return name == "security.capability" ||
		strings.HasPrefix(name, "user.") && len(name) > len("user.") && !strings.HasPrefix(name, "user.overlay.")
}

// HasXattrs reports whether a file of a type keeps attributes in a layer: regular files and directories do. Linux allows
// user.* on no others, so that a copy of one that had them could not be made.
func HasXattrs(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFREG || mode&unix.S_IFMT == unix.S_IFDIR
}

// Split cuts a clean path into its directory, "." being the root, and its last name.
func Split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// Join is path.Join for clean relative paths, without its cost.
func Join(dir, name string) string {
	switch {
	case dir == ".":
		return name
	case name == ".":
		return dir
	}
	return dir + "/" + name
}

// An Extent is a stretch of a file.
type Extent struct {
	Size int64
	At   int64 // where it lies: see who gives it; -1 is a hole
}
