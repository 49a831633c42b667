// Package snapshot keeps file systems: it mounts layers, reads them without mounting, lends writable drafts and turns
// changes into tar.
package snapshot

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
)

// STUBS: seams other rooms compile against.

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
	Xattrs  map[string]string // user.* and security.capability; nil if none
}

// A Tree is a file tree to read from. All names are relative to its root, clean, "/"-separated, "." being the root; no
// method follows a link in any component, except Resolve. Implemented by *View and *Dir. Safe for concurrent use.
type Tree interface {
	Lstat(name string) (Entry, error)                 // fs.ErrNotExist, ENOTDIR
	ReadDir(name string) ([]Entry, error)             // sorted by name
	Open(name string) (io.ReadCloser, error)          // regular files
	Digest(name string) (digest.Digest, error)        // of a regular file's content; remembered where that is possible
	Resolve(name string, follow bool) (string, error) // follows links inside the root, clamping ".."; the last one too if follow. The path up to a missing component is resolved, the rest kept, with error fs.ErrNotExist
}

// A Kind is a way to stack layers.
type Kind string

const (
	EROFS   Kind = "erofs"   // tars mounted in place, stacked by overlayfs
	Overlay Kind = "overlay" // unpacked, stacked by overlayfs
	Copy    Kind = "copy"    // unpacked, stacked by copying
)

// A Store turns layers into file systems. Safe for concurrent use, by processes too.
type Store struct{}

// Options for Open; the zero value probes.
type Options struct {
	Kind Kind // "" probes
}

// Open opens root/snapshots and root/drafts.
func Open(root string, l *image.Layout, o Options) (*Store, error) { panic("stub") }

// Kind is how layers are stacked, and why.
func (s *Store) Kind() (k Kind, why string) { panic("stub") }

// View reads layers without mounting or privilege, lowest first, as one tree. Layers that are not here yet fail with
// fs.ErrNotExist. Close releases maps.
func (s *Store) View(ctx context.Context, layers []image.Layer) (*View, error) { panic("stub") }

// View is the merged, whiteout-applying tree of some layers.
type View struct{ Tree }

func (v *View) Close() error { panic("stub") }

// Mount returns a detached read-only mount of the layers (open_tree/fsmount fd). Closing it unmounts.
func (s *Store) Mount(ctx context.Context, layers []image.Layer) (*os.File, error) { panic("stub") }

// Draft lends a writable file system on top of layers.
func (s *Store) Draft(ctx context.Context, layers []image.Layer, o DraftOptions) (*Draft, error) {
	panic("stub")
}

// DraftOptions tell what a draft is for. Durable drafts (containers) are not mounted volatile and keep Dir.
type DraftOptions struct{ Dir string }

// A Draft is a file system being written. It has no digest until committed, so it cannot lie below another.
type Draft struct{}

// Mount returns the detached mount of the draft's root; the Draft owns it.
func (d *Draft) Mount(ctx context.Context) (*os.File, error) { panic("stub") }

// Mountpoint makes sure that something can be mounted at path, links resolved within the root, and returns the resolved
// path. What it had to make is removed again, and the times of the parent put back, by Commit, unless keep.
func (d *Draft) Mountpoint(path string, dir, keep bool) (string, error) { panic("stub") }

// Commit writes what changed as a layer: staged, not yet durable. Entries equal to what lies below are left out. Times
// after epoch are set to it if epoch is not nil.
func (d *Draft) Commit(ctx context.Context, epoch *time.Time) (image.Layer, error) { panic("stub") }
func (d *Draft) Close() error                                                      { panic("stub") }

// Changes is a set of changes to a tree, to be written as a layer with neither mount nor privilege.
type Changes struct{}

// NewChanges begins changes on top of below (nil: nothing lies below).
func NewChanges(below *View) *Changes { panic("stub") }

// Put sets path (resolved, clean, relative) to e with the content that open gives; open is nil for anything but regular
// files. Later Puts win. inode-equal entries of one tree added with the same group are hard links of each other.
func (c *Changes) Put(path string, e Entry, content Content) error { panic("stub") }

// Lookup finds a path in the changes or below.
func (c *Changes) Lookup(path string) (Entry, error) { panic("stub") }

// Resolve is Tree.Resolve over the changes and what lies below.
func (c *Changes) Resolve(path string, follow bool) (string, error) { panic("stub") }

// Remove hides path.
func (c *Changes) Remove(path string) error { panic("stub") }

// Content opens a regular file's content; Group and Inode tell hard links.
type Content struct {
	Open  func() (io.ReadCloser, error)
	Group string // "" has no hard links
}

// Commit writes the changes as a layer, staged.
func (s *Store) Commit(ctx context.Context, c *Changes, epoch *time.Time) (image.Layer, error) {
	panic("stub")
}

// OpenDir opens a directory of the host as a tree: symlinks are never followed out, ignore hides what a .dockerignore
// hides, digests are remembered in indexFile by stat.
func OpenDir(path string, ignore []string, indexFile string) (*Dir, error) { panic("stub") }

type Dir struct{ Tree }

// Close writes the index if it changed.
func (d *Dir) Close() error { panic("stub") }
