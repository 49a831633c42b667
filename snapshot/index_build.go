package snapshot

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Limits of a layer, wherever it comes from.
const (
	maxPath    = 4096
	maxName    = 255
	maxEntries = 10_000_000

	// maxMeta is what names, links and attributes of a layer may take together: an archive decides how much memory its
	// index needs while it is made, and shall not decide on more than this.
	maxMeta = 256 << 20
)

var (
	errNotDir = errors.New("not a directory")
	errLoop   = errors.New("too many levels of symbolic links")
)

// An indexBuilder collects the files of a layer and writes the index that mounts its tar. Files may come in any order;
// later ones win.
type indexBuilder struct {
	names  []indexName
	inodes []indexInode
	at     map[nameKey]int32
	sparse map[int32]sparseMap // by inode
	xattrs map[string]string   // one copy of each set
	meta   int                 // bytes of names, links and attributes
	limit  int                 // of them

	whiteout int32 // inode of all whiteouts, 0 before the first one
	follow   bool  // links on the way to a file are followed, as unpacking would do

	lastDir string // the directory that was found last
	lastID  int32
}

// A nameKey finds a name in a directory.
type nameKey struct {
	dir  int32
	name string
}

// An indexName is an entry of a directory. Directories are known by the number of their name, files by their inode's.
type indexName struct {
	name   string
	parent int32
	inode  int32 // -1: replaced by a later name
}

type indexInode struct {
	mode, uid, gid uint32
	nsec           uint32
	sec            int64
	size           int64
	offset         int64  // of a regular file's data in the tar
	link           string // of a symbolic link
	xattrs         string // entries of EROFS
	dev            uint32 // of a device, as encodeDev
	flags          uint8
}

func newIndexBuilder() *indexBuilder {
	root := indexInode{mode: modeDir | 0o755, flags: flagImplied}
	return &indexBuilder{
		names:  []indexName{{}},
		inodes: []indexInode{root},
		at:     make(map[nameKey]int32),
		xattrs: make(map[string]string),
		limit:  maxMeta,
	}
}

// inode makes an inode of an entry.
func (b *indexBuilder) inode(e *Entry, offset int64) (indexInode, error) {
	i := indexInode{mode: e.Mode, uid: e.UID, gid: e.GID}
	i.sec, i.nsec = e.UnixTime()
	switch e.Mode & modeType {
	case modeRegular:
		i.size, i.offset = e.Size, offset
		if e.Size < 0 || offset+e.Size < 0 || (offset+e.Size)>>erofsBlockBits >= erofsHole {
			return i, fmt.Errorf("data at %d of %d bytes is beyond what an index can tell", offset, e.Size)
		}
	case modeLink:
		if e.Link == "" || len(e.Link) > maxPath || strings.Contains(e.Link, "\x00") {
			return i, fmt.Errorf("symbolic link to a name of %d bytes", len(e.Link))
		}
		i.link, i.size = strings.Clone(e.Link), int64(len(e.Link))
	case modeChar, modeBlock:
		major, minor := unix.Major(e.Rdev), unix.Minor(e.Rdev)
		if i.dev = encodeDev(major, minor); major > 0xfff || minor > 0xfffff {
			return i, fmt.Errorf("device number %d:%d is too big", major, minor)
		}
	case modeDir, modeFIFO:
	default:
		return i, fmt.Errorf("mode %#o is of no type that a layer can hold", e.Mode)
	}
	xattrs, err := encodeXattrs(e.Xattrs)
	if err != nil {
		return i, err
	}
	if shared, ok := b.xattrs[xattrs]; ok {
		i.xattrs = shared
		return i, b.charge(len(i.link))
	}
	if xattrs != "" {
		b.xattrs[xattrs] = xattrs
	}
	i.xattrs = xattrs
	return i, b.charge(len(i.link) + len(xattrs))
}

// charge counts memory that the layer asked for.
func (b *indexBuilder) charge(n int) error {
	if b.meta += n; b.meta > b.limit {
		return fmt.Errorf("names, links and attributes of the layer take more than %d MiB", b.limit>>20)
	}
	return nil
}

// add puts a file at path, replacing what is there but for the entries of a directory that stays one.
func (b *indexBuilder) add(path string, e *Entry, offset int64) error {
	i, err := b.inode(e, offset)
	if err != nil {
		return err
	}
	if path == "." {
		if i.mode&modeType != modeDir {
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
func (b *indexBuilder) put(dir int32, base string, i indexInode) error {
	if id, ok := b.at[nameKey{dir, base}]; ok && i.mode&modeType == modeDir {
		switch old := b.names[id].inode; {
		case b.isDir(id):
			b.replaceDir(old, i)
			return nil
		case b.whiteout != 0 && old == b.whiteout:
			i.flags |= flagOpaque
		}
	}
	if len(b.inodes) >= math.MaxInt32 {
		return errTooMany
	}
	b.inodes = append(b.inodes, i)
	_, err := b.enter(dir, base, int32(len(b.inodes)-1))
	return err
}

// replaceDir gives a directory new metadata and keeps what is in it.
func (b *indexBuilder) replaceDir(inode int32, i indexInode) {
	i.flags |= b.inodes[inode].flags & flagOpaque
	b.inodes[inode] = i
}

var errTooMany = fmt.Errorf("more than %d entries", maxEntries)

// enter names an inode, and returns the number of the name. What had the name before is gone, with all that was in it.
func (b *indexBuilder) enter(dir int32, base string, inode int32) (int32, error) {
	key := nameKey{dir, base}
	if old, ok := b.at[key]; ok {
		b.lastDir = "" // it may have been in what goes now
		b.names[old].inode = -1
		key.name = b.names[old].name
	} else {
		if len(base) > maxName {
			return 0, fmt.Errorf("name of %d bytes", len(base))
		}
		key.name = strings.Clone(base) // not the path it is cut from
		if err := b.charge(len(base)); err != nil {
			return 0, err
		}
	}
	if len(b.names) >= maxEntries {
		return 0, errTooMany
	}
	id := int32(len(b.names))
	b.names = append(b.names, indexName{name: key.name, parent: dir, inode: inode})
	b.at[key] = id
	return id, nil
}

// link gives the file at target a further name.
func (b *indexBuilder) link(path, target string) error {
	id, err := b.lookup(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", target, err)
	}
	inode := b.names[id].inode
	if b.isDir(id) || b.whiteout != 0 && inode == b.whiteout {
		return fmt.Errorf("hard link to %s, which is no file", target)
	}
	dir, base, err := b.parent(path)
	if err != nil {
		return err
	}
	if b.at[nameKey{dir, base}] == id {
		return nil // a link to itself
	}
	_, err = b.enter(dir, base, inode)
	return err
}

// entry returns the metadata of the file at path.
func (b *indexBuilder) entry(path string) (Entry, error) {
	id, err := b.lookup(path)
	if err != nil {
		return Entry{}, err
	}
	i := b.inodes[b.names[id].inode]
	e := Entry{Mode: i.mode, UID: i.uid, GID: i.gid, Size: i.size, ModTime: time.Unix(i.sec, int64(i.nsec)), Link: i.link}
	if i.dev != 0 {
		major, minor := decodeDev(i.dev)
		e.Rdev = unix.Mkdev(major, minor)
	}
	return e, nil
}

// hide puts a whiteout at path. Whiteouts are about layers below: what this layer has at path stays, and hides what
// lies below as well.
func (b *indexBuilder) hide(path string) error {
	dir, base, err := b.parent(path)
	if err != nil {
		return err
	}
	if id, ok := b.at[nameKey{dir, base}]; ok {
		if b.isDir(id) {
			b.inodes[b.names[id].inode].flags |= flagOpaque
		}
		return nil
	}
	if b.whiteout == 0 {
		b.whiteout = int32(len(b.inodes))
		b.inodes = append(b.inodes, indexInode{mode: modeChar})
	}
	_, err = b.enter(dir, base, b.whiteout)
	return err
}

// opaque makes the directory at path hide what lies below, making it if need be.
func (b *indexBuilder) opaque(path string) error {
	id, err := b.dir(path)
	if err != nil {
		return err
	}
	b.inodes[b.names[id].inode].flags |= flagOpaque
	return nil
}

func (b *indexBuilder) isDir(id int32) bool {
	return b.inodes[b.names[id].inode].mode&modeType == modeDir
}

// parent finds the directory of path, making it if need be.
func (b *indexBuilder) parent(path string) (dir int32, base string, err error) {
	parent, base := splitPath(path)
	dir, err = b.dir(parent)
	return dir, base, err
}

// dir finds the directory at path. Missing ones are made.
func (b *indexBuilder) dir(path string) (int32, error) {
	if path == "." {
		return 0, nil
	}
	if path == b.lastDir {
		return b.lastID, nil
	}
	id, err := b.walk(path, true)
	if err != nil {
		return 0, err
	}
	b.lastDir, b.lastID = strings.Clone(path), id
	return id, nil
}

// lookup finds the name at path, following links on the way but not a last one.
func (b *indexBuilder) lookup(path string) (int32, error) {
	parent, base := splitPath(path)
	if base == "." {
		return 0, nil
	}
	dir, err := b.walk(parent, false)
	if err != nil {
		return 0, err
	}
	id, ok := b.at[nameKey{dir, base}]
	if !ok {
		return 0, unix.ENOENT
	}
	return id, nil
}

// walk goes down a path of directories.
func (b *indexBuilder) walk(path string, create bool) (int32, error) {
	dir, links := int32(0), 0
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..": // of a link
			dir = b.names[dir].parent
			continue
		}
		id, ok := b.at[nameKey{dir, name}]
		if ok && b.whiteout != 0 && b.names[id].inode == b.whiteout {
			if !create {
				return 0, unix.ENOENT
			}
			// Hidden below and made anew here.
			if err := b.put(dir, name, indexInode{mode: modeDir | 0o755}); err != nil {
				return 0, err
			}
			dir = b.at[nameKey{dir, name}]
			continue
		}
		switch {
		case !ok && !create:
			return 0, unix.ENOENT
		case !ok && strings.HasPrefix(name, whiteoutPrefix): // by way of a link
			return 0, errOddWhiteout
		case !ok:
			b.inodes = append(b.inodes, indexInode{mode: modeDir | 0o755, flags: flagImplied})
			var err error
			if dir, err = b.enter(dir, name, int32(len(b.inodes)-1)); err != nil {
				return 0, err
			}
		case b.isDir(id):
			dir = id
		default:
			target := b.inodes[b.names[id].inode].link
			if target == "" || !b.follow {
				return 0, fmt.Errorf("%s: %w", name, errNotDir)
			}
			if links++; links > filetree.MaxLinks || len(target)+len(rest) > 2*maxPath {
				return 0, fmt.Errorf("%s: %w", name, errLoop)
			}
			if target[0] == '/' {
				dir = 0
			}
			rest = target + "/" + rest
		}
	}
	return dir, nil
}

// splitPath cuts a clean path into its directory and its last name.
func splitPath(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}
