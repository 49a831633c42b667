package erofs

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// MaxMeta is what names, links and attributes of a layer may take together: an archive decides how much memory its
// index needs while it is made, and shall not decide on more than this.
const MaxMeta = 256 << 20

// MaxTar is more bytes than a layer's tar, and so a file in it, may have: the index counts its blocks in 32 bits.
const MaxTar = hole << blockBits

var (
	errNotDir = errors.New("not a directory")
	errLoop   = errors.New("too many levels of symbolic links")

	// ErrOddWhiteout is the error for a whiteout that hides nothing that can be a file.
	ErrOddWhiteout = errors.New("whiteout of no file")
)

// A Builder collects the files of a layer and writes the index that mounts its tar. Files may come in any order; later
// ones win. Not safe for concurrent use.
type Builder struct {
	// FollowLinks has links on the way to a file followed within the layer, as unpacking would do.
	FollowLinks bool

	// Tar is in which of several tars the data is of the files that are added.
	Tar uint16

	filetree.Names
	spill  *filetree.Spill
	inodes []indexInode
	chunks []uint32 // of sparse files, see sparseMap
	meta   int      // bytes of names, links and attributes
	limit  int      // of them

	whiteout int32 // inode of all whiteouts, 0 before the first one

	lastDir string // the directory that was found last
	lastID  int32
}

// An indexInode is a file. It has no pointers: there may be millions.
type indexInode struct {
	sec      int64
	size     int64
	offset   int64 // of a regular file's data in the tar; of a sparse one's map in the chunks
	uid, gid uint32
	nsec     uint32
	extra    uint32 // of a device its number, as encodeDev; of a symbolic link where its target is in the names
	xattrs   uint32 // where in the names they are, 0 if there are none
	mode     uint16
	tar      uint16 // of a regular file: in which its data is
	path     uint16 // of a directory: how long its path is, in which there are no links
	flags    uint8
}

func (i *indexInode) fileType() uint32 { return uint32(i.mode) & unix.S_IFMT }

// link is the target of a symbolic link, "" of anything else.
func (b *Builder) link(i *indexInode) string {
	if i.fileType() != unix.S_IFLNK {
		return ""
	}
	return b.Text(i.extra, int(i.size))
}

// NewBuilder begins an empty layer. What it keeps of each file is in spill, which the caller closes afterwards.
func NewBuilder(spill *filetree.Spill) *Builder {
	root := indexInode{mode: unix.S_IFDIR | 0o755, flags: flagImplied}
	return &Builder{
		Names:  filetree.NewNames(spill),
		spill:  spill,
		inodes: []indexInode{root},
		limit:  MaxMeta,
	}
}

// inode makes an inode of an entry.
func (b *Builder) inode(e *filetree.Entry, offset int64) (indexInode, error) {
	i := indexInode{mode: uint16(e.Mode), uid: e.UID, gid: e.GID}
	i.sec, i.nsec = e.UnixTime()
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		i.size, i.offset, i.tar = e.Size, offset, b.Tar
		if e.Size < 0 || offset+e.Size < 0 || offset+e.Size >= MaxTar {
			return i, fmt.Errorf("data at %d of %d bytes is beyond what an index can tell", offset, e.Size)
		}
	case unix.S_IFLNK:
		if e.Link == "" || len(e.Link) > filetree.MaxPath || strings.Contains(e.Link, "\x00") {
			return i, fmt.Errorf("symbolic link to a name of %d bytes", len(e.Link))
		}
		if err := b.charge(len(e.Link)); err != nil {
			return i, err
		}
		i.extra, i.size = b.Keep(e.Link), int64(len(e.Link))
	case unix.S_IFCHR, unix.S_IFBLK:
		major, minor := unix.Major(e.Rdev), unix.Minor(e.Rdev)
		if i.extra = encodeDev(major, minor); major > 0xfff || minor > 0xfffff {
			return i, fmt.Errorf("device number %d:%d is too big", major, minor)
		}
	case unix.S_IFDIR, unix.S_IFIFO:
	default:
		return i, fmt.Errorf("mode %#o is of no type that a layer can hold", e.Mode)
	}
	if !filetree.HasXattrs(e.Mode) {
		return i, nil
	}
	xattrs, err := EncodeXattrs(e.Xattrs)
	if err != nil || xattrs == "" {
		return i, err
	}
	before := b.Size()
	i.xattrs = b.KeepSet(xattrs)
	return i, b.charge(b.Size() - before)
}

// addInode keeps an inode and returns its number.
func (b *Builder) addInode(i indexInode) int32 {
	b.inodes = append(filetree.Grow(b.spill, b.inodes, 1), i)
	return int32(len(b.inodes) - 1)
}

// charge counts memory that the layer asked for.
func (b *Builder) charge(n int) error {
	if b.meta += n; b.meta > b.limit {
		return fmt.Errorf("names, links and attributes of the layer take more than %d MiB", b.limit>>20)
	}
	return nil
}

// Add puts a file at path, replacing what is there but for the entries of a directory that stays one.
func (b *Builder) Add(path string, e *filetree.Entry, offset int64) error {
	i, err := b.inode(e, offset)
	if err != nil {
		return err
	}
	if path == "." {
		if i.fileType() != unix.S_IFDIR {
			return errors.New("the root can only be a directory")
		}
		b.replaceDir(0, i)
		return nil
	}
	dir, base, err := b.parent(path)
	if err != nil {
		return err
	}
	return b.put(dir, base, i)
}

// put makes the inode and enters it in a directory.
func (b *Builder) put(dir int32, base string, i indexInode) error {
	i.path = uint16(b.pathLen(dir, base))
	if id, ok := b.At(dir, base); ok && i.fileType() == unix.S_IFDIR {
		switch old := b.List[id].File; {
		case b.isDir(id):
			b.replaceDir(old, i)
			return nil
		default: // a whiteout, or a file: the directory must not show what that has hidden
			i.flags |= flagOpaque
		}
	}
	if len(b.inodes) >= math.MaxInt32 {
		return filetree.ErrTooMany
	}
	_, err := b.enter(dir, base, b.addInode(i))
	return err
}

// replaceDir gives a directory new metadata and keeps what is in it.
func (b *Builder) replaceDir(inode int32, i indexInode) {
	old := &b.inodes[inode]
	i.flags |= old.flags & flagOpaque
	i.path = old.path
	*old = i
}

// pathLen is how long the path of a name in a directory is.
func (b *Builder) pathLen(dir int32, base string) int {
	if dir == 0 {
		return len(base)
	}
	return int(b.inodes[b.List[dir].File].path) + len("/") + len(base)
}

// enter names an inode, and returns the number of the name. What had the name before is gone, with all that was in it.
func (b *Builder) enter(dir int32, base string, inode int32) (int32, error) {
	if _, ok := b.At(dir, base); ok {
		b.lastDir = "" // it may have been in what goes now
	} else {
		if len(base) > filetree.MaxName {
			return 0, fmt.Errorf("name of %d bytes", len(base))
		}
		if n := b.pathLen(dir, base); n > filetree.MaxPath { // links make a path longer than its name
			return 0, fmt.Errorf("name of %d bytes, by way of links", n)
		}
		if err := b.charge(len(base)); err != nil {
			return 0, err
		}
	}
	if len(b.List) >= filetree.MaxEntries {
		return 0, filetree.ErrTooMany
	}
	return b.Names.Add(dir, base, inode), nil
}

// Link gives the file at target a further name.
func (b *Builder) Link(path, target string) error {
	id, err := b.lookup(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", target, err)
	}
	inode := b.List[id].File
	if b.isDir(id) || b.isWhiteout(id) {
		return fmt.Errorf("hard link to %s, which is no file", target)
	}
	dir, base, err := b.parent(path)
	if err != nil {
		return err
	}
	if there, _ := b.At(dir, base); there == id {
		return nil // a link to itself
	}
	_, err = b.enter(dir, base, inode)
	return err
}

// Entry returns the metadata of the file at path.
func (b *Builder) Entry(path string) (filetree.Entry, error) {
	id, err := b.lookup(path)
	if err != nil {
		return filetree.Entry{}, err
	}
	i := &b.inodes[b.List[id].File]
	e := filetree.Entry{
		Mode: uint32(i.mode), UID: i.uid, GID: i.gid, Size: i.size, ModTime: time.Unix(i.sec, int64(i.nsec)), Link: b.link(i),
	}
	if t := i.fileType(); t == unix.S_IFCHR || t == unix.S_IFBLK {
		major, minor := decodeDev(i.extra)
		e.Rdev = unix.Mkdev(major, minor)
	}
	return e, nil
}

// Hide puts a whiteout at path. Whiteouts are about layers below: what this layer has at path stays, and hides what
// lies below as well.
func (b *Builder) Hide(path string) error {
	dir, base, err := b.parent(path)
	if err != nil {
		return err
	}
	if id, ok := b.At(dir, base); ok {
		if b.isDir(id) {
			b.inodes[b.List[id].File].flags |= flagOpaque
		}
		return nil
	}
	if b.whiteout == 0 {
		b.whiteout = b.addInode(indexInode{mode: unix.S_IFCHR})
	}
	_, err = b.enter(dir, base, b.whiteout)
	return err
}

// Opaque makes the directory at path hide what lies below, making it if need be.
func (b *Builder) Opaque(path string) error {
	id, err := b.dir(path)
	if err != nil {
		return err
	}
	b.inodes[b.List[id].File].flags |= flagOpaque
	return nil
}

func (b *Builder) isDir(id int32) bool {
	return b.inodes[b.List[id].File].fileType() == unix.S_IFDIR
}

// parent finds the directory of path, making it if need be.
func (b *Builder) parent(path string) (dir int32, base string, err error) {
	parent, base := filetree.Split(path)
	dir, err = b.dir(parent)
	return dir, base, err
}

// dir finds the directory at path. Missing ones are made.
func (b *Builder) dir(path string) (int32, error) {
	if path == "." {
		return 0, nil
	}
	if path == b.lastDir {
		return b.lastID, nil
	}
	id, err := b.ensure(path)
	if err != nil {
		return 0, err
	}
	b.lastDir, b.lastID = strings.Clone(path), id
	return id, nil
}

// lookup finds the name at path, following links on the way but not a last one.
func (b *Builder) lookup(path string) (int32, error) {
	parent, base := filetree.Split(path)
	if base == "." {
		return 0, nil
	}
	dir, err := b.find(parent)
	if err != nil {
		return 0, err
	}
	id, ok := b.At(dir, base)
	if !ok {
		return 0, unix.ENOENT
	}
	return id, nil
}
