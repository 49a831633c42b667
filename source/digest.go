package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"syscall"

	"github.com/forge-build/forge/snapshot/filetree"
)

// maxGroups is how many fields one source may have in a key. Few files have a field each, so that a miss can name the
// file that changed; many are hashed by the directory they are in.
const maxGroups = 64

// A FileDigest is a digest of a file, or of a directory with all that is in it: names, types, modes, owners, xattrs, links
// and contents, but no times.
type FileDigest struct {
	Name string `json:"name"`
	Sum  string `json:"sum"` // SHA-256 in hexadecimal
}

// digests hashes a selection in groups.
func (s *Selection) digests(ctx context.Context) ([]FileDigest, error) {
	defer s.loadAhead(ctx)()
	guess := s.guessDepth()
	var perDepth []int
	groups, err := s.group(ctx, guess, func(it *Item) {
		for len(perDepth) <= it.Depth {
			perDepth = append(perDepth, 0)
		}
		perDepth[it.Depth]++
	})
	if err != nil {
		return nil, err
	}
	deepest, n := 0, 0
	for depth, files := range perDepth {
		if n += files; n > maxGroups {
			break
		}
		deepest = depth
	}
	if deepest <= guess {
		return groups, nil
	}
	return s.group(ctx, deepest, func(*Item) {})
}

// loadAhead loads what a walk will need while that goes on. What cannot be read is an error of the walk, if it comes there. The caller
// ends it after the walk.
func (s *Selection) loadAhead(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var loading sync.WaitGroup
	loading.Go(func() { _ = s.Load(ctx) })
	return func() {
		cancel()
		loading.Wait()
	}
}

// guessDepth is how deep groups may go if all is selected that a look at the top of the tree finds. If it is not, they may go deeper.
func (s *Selection) guessDepth() int {
	if !s.IsDir() || len(s.include) > 0 {
		return 1
	}
	level, n := []string{s.Root}, 1
	for depth := 0; ; depth++ {
		var below []string
		for _, dir := range level {
			err := s.Tree.List(dir, func(e *filetree.Entry, _ *filetree.Sum) error {
				if n++; n > maxGroups {
					return fs.SkipAll
				}
				if isDir(e) {
					below = append(below, filetree.Join(dir, e.Name))
				}
				return nil
			})
			if err != nil { // another than SkipAll comes again when it matters
				return depth
			}
		}
		if len(below) == 0 {
			return depth + 1
		}
		level = below
	}
}

// digest is one digest of all that is selected.
func (s *Selection) digest(ctx context.Context) (string, error) {
	defer s.loadAhead(ctx)()
	groups, err := s.group(ctx, 0, func(*Item) {})
	if err != nil {
		return "", err
	}
	return groups[0].Sum, nil
}

// onTheWay is how many bytes of files a walk reads to digest them. If more have to be read, that is done two files at a time, before
// another walk.
const onTheWay = 1 << 20

// group hashes what is selected into groups that go down to a depth, and calls seen for each item.
func (s *Selection) group(ctx context.Context, deepest int, seen func(it *Item)) ([]FileDigest, error) {
	g := newGrouper(s, deepest)
	var unknown []string
	read := int64(0)
	err := s.Walk(ctx, func(it *Item) error {
		seen(it)
		if it.sum == nil && it.Entry.Mode&syscall.S_IFMT == syscall.S_IFREG {
			if read += it.Entry.Size; read > onTheWay {
				unknown = append(unknown, s.Path(it))
			}
		}
		if len(unknown) > 0 {
			return nil
		}
		return g.add(ctx, it)
	})
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		if err := filetree.Hash(ctx, s.Tree, unknown); err != nil {
			return nil, err
		}
		g = newGrouper(s, deepest)
		if err := s.Walk(ctx, func(it *Item) error { return g.add(ctx, it) }); err != nil {
			return nil, err
		}
	}
	g.flush()
	return g.groups, nil
}

// A grouper hashes items into groups: one for each item down to the depth deepest, with all that is beneath it.
type grouper struct {
	sel     *Selection
	deepest int
	hash    hash.Hash
	buf     []byte
	links   map[uint64]string // first path of each inode that has several
	name    string            // of the current group
	groups  []FileDigest
}

func newGrouper(s *Selection, deepest int) *grouper {
	return &grouper{sel: s, deepest: deepest, hash: sha256.New(), links: make(map[uint64]string)}
}

// flush ends the current group.
func (g *grouper) flush() {
	g.write()
	if g.name != "" {
		g.groups = append(g.groups, FileDigest{g.name, hex.EncodeToString(g.hash.Sum(nil))})
	}
	g.hash.Reset()
}

func (g *grouper) write() {
	g.hash.Write(g.buf)
	g.buf = g.buf[:0]
}

// add writes everything about an item that its copy will have.
func (g *grouper) add(ctx context.Context, it *Item) error {
	if it.Depth <= g.deepest {
		g.flush()
		g.name = path.Join(g.sel.Named, it.Rel())
	}
	e := it.Entry
	switch {
	case it.Depth == 0 && g.sel.mounted:
		g.text(".")
	case it.Depth == 0 && isDir(e):
		g.text("directory") // whose own mode and owner are not copied
		return nil
	case it.Depth == 0:
		g.text(g.sel.Base)
	default:
		g.text(it.dir)
		g.text(e.Name)
	}
	g.number(uint64(e.Mode), uint64(e.UID), uint64(e.GID))
	if it.OnPath {
		g.text("on the way")
	}
	g.number(uint64(len(e.Xattrs)))
	if len(e.Xattrs) > 0 { // few files have any, and an empty list takes memory, too
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			g.text(name)
			g.text(e.Xattrs[name])
		}
	}
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		g.text(e.Link)
	case syscall.S_IFCHR, syscall.S_IFBLK:
		g.number(e.Rdev)
	case syscall.S_IFREG:
		if err := g.content(ctx, it); err != nil {
			return err
		}
	}
	if len(g.buf) > 32<<10 {
		g.write()
	}
	return nil
}

// content adds a file's digest, and which earlier file it is a hard link of.
func (g *grouper) content(ctx context.Context, it *Item) error {
	sum := it.sum
	if sum == nil {
		known, err := g.sel.Tree.Sum(ctx, g.sel.Path(it))
		if err != nil {
			return err
		}
		sum = &known
	}
	g.buf = append(g.buf, sum[:]...)
	// A file whose other names are not selected is like one that has no other name.
	first := ""
	if it.Entry.Nlink > 1 {
		var ok bool
		if first, ok = g.links[it.Entry.Inode]; !ok {
			g.links[it.Entry.Inode] = it.Rel()
		}
	}
	g.text(first)
	return nil
}

// text and number write values so that no two lists of them look alike.
func (g *grouper) text(s string) {
	g.buf = binary.AppendUvarint(g.buf, uint64(len(s)))
	g.buf = append(g.buf, s...)
}

func (g *grouper) number(values ...uint64) {
	for _, v := range values {
		g.buf = binary.AppendUvarint(g.buf, v)
	}
}
