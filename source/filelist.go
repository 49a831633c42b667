package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Bounds of the lists that are kept of mounts.
const (
	maxList  = 32 << 20  // bytes of one list, which is some 600,000 files; a longer one is not kept
	maxLists = 128 << 20 // bytes on disk of all lists; the least recently used go first
)

// A list says which files the digest of a mount stands for, so that a later build can name the one that has changed. It is kept under
// the digest. The files are in the order of a walk. Of each:
//
//	path relative to the mount: how many bytes it shares with the path before, then the rest
//	mode, uid, gid, size (0 of what is no regular file)
//	content: SHA-256 of a regular file, target of a link, number of a device
//	extra: 8 bytes of a SHA-256 over xattrs and the first of several names; empty if there are none
//
// Numbers are uvarints, texts have their length before them.

// A listedFile is one file of a list.
type listedFile struct {
	path           string // "" is the root
	mode, uid, gid uint32
	size           int64
	content, extra string
}

// keepList keeps the list of what is mounted under its digest. A list that cannot be kept costs a later build the names of files, so
// that errors are not told.
func (r *Resolver) keepList(ctx context.Context, s *Selection, digest string) {
	key, err := cache.ParseKey(digest)
	if err != nil || r.Lists == nil || r.Lists.Touch(key) {
		return
	}
	list, err := s.list(ctx)
	if err != nil {
		return
	}
	if r.Lists.Put(ctx, key, list) == nil {
		_ = r.Lists.Limit(maxLists)
	}
}

// touchLists says that lists are of use still.
func (r *Resolver) touchLists(files []FileDigest) {
	for _, f := range files {
		if key, err := cache.ParseKey(f.Sum); err == nil && r.Lists != nil {
			r.Lists.Touch(key)
		}
	}
}

// errLong ends the walk for a list that is too long to keep.
var errLong = errors.New("too many files for a list")

// list lists what is selected. All digests are known to the tree.
func (s *Selection) list(ctx context.Context) ([]byte, error) {
	var list []byte
	last := ""
	links := map[uint64]string{}
	err := s.Walk(ctx, func(it *Item) error {
		f := listedFile{path: it.Rel(), mode: it.Entry.Mode, uid: it.Entry.UID, gid: it.Entry.GID}
		if it.Depth == 0 {
			f.path = ""
		}
		switch it.Entry.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			sum := it.sum
			if sum == nil {
				known, err := s.Tree.Sum(ctx, s.Path(it))
				if err != nil {
					return err
				}
				sum = &known
			}
			f.size, f.content = it.Entry.Size, string(sum[:])
		case syscall.S_IFLNK:
			f.content = it.Entry.Link
		case syscall.S_IFCHR, syscall.S_IFBLK:
			f.content = fmt.Sprint(it.Entry.Rdev)
		}
		f.extra = extraOf(it, links)
		list = f.append(list, last)
		last = f.path
		if len(list) > maxList {
			return errLong
		}
		return nil
	})
	return list, err
}

// extraOf is a digest of the attributes of a file and of the first name that the file has in the tree.
func extraOf(it *Item, links map[uint64]string) string {
	e := it.Entry
	first := ""
	if e.Mode&syscall.S_IFMT == syscall.S_IFREG && e.Nlink > 1 {
		var ok bool
		if first, ok = links[e.Inode]; !ok {
			links[e.Inode] = it.Rel()
		}
	}
	if len(e.Xattrs) == 0 && first == "" {
		return ""
	}
	all := appendText(nil, first)
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		all = appendText(appendText(all, name), e.Xattrs[name])
	}
	sum := sha256.Sum256(all)
	return string(sum[:8])
}

func (f *listedFile) append(list []byte, last string) []byte {
	shared := 0
	for shared < min(len(last), len(f.path)) && last[shared] == f.path[shared] {
		shared++
	}
	list = appendText(binary.AppendUvarint(list, uint64(shared)), f.path[shared:])
	for _, n := range []uint64{uint64(f.mode), uint64(f.uid), uint64(f.gid), uint64(f.size)} {
		list = binary.AppendUvarint(list, n)
	}
	return appendText(appendText(list, f.content), f.extra)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A listReader reads a list. What is damaged ends it, with err.
type listReader struct {
	rest []byte
	file *listedFile // where it stands; nil at the end
	err  error
}

func (r *listReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.err, r.rest = errors.New("damaged list of files"), nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *listReader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.err, r.rest = errors.New("damaged list of files"), nil
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// next goes to the next file.
func (r *listReader) next() {
	last := r.file
	r.file = nil
	if len(r.rest) == 0 {
		return
	}
	f := &listedFile{}
	if shared := r.number(); shared > 0 {
		if last == nil || shared > uint64(len(last.path)) {
			r.err = errors.New("damaged list of files")
			return
		}
		f.path = last.path[:shared]
	}
	f.path += r.text()
	f.mode, f.uid, f.gid, f.size = uint32(r.number()), uint32(r.number()), uint32(r.number()), int64(r.number())
	f.content, f.extra = r.text(), r.text()
	if len(f.path) > filetree.MaxPath {
		r.err = errors.New("damaged list of files")
	}
	if r.err == nil {
		r.file = f
	}
}
