package executor

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"path"
	"slices"
	"syscall"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// maxGroups is how many fields one source may have in a key. Few files have a field each, so that a miss can name the
// file that changed; many are hashed by the directory they are in.
const maxGroups = 64

// describeSource adds what one path of the build file selects: names, types, modes, owners, xattrs, links and contents,
// but no times.
func (w *Local) describeSource(ctx context.Context, job Job, op *planner.Copy, source string, h *cache.Hash) error {
	compute := func() ([][2]string, error) {
		tree, err := w.tree(ctx, job, op.From)
		if err != nil {
			return nil, err
		}
		return describeTree(ctx, tree, op, source)
	}
	var groups [][2]string
	var err error
	if op.From.Read < 0 {
		groups, err = compute() // the context remembers digests itself
	} else {
		groups, err = w.rememberGroups(ctx, job.Reads[op.From.Read], op, source, compute)
	}
	if err != nil {
		return err
	}
	for _, g := range groups {
		h.Field("file "+g[0], g[1])
	}
	return nil
}

// rememberGroups keeps what layers answered, since they never answer otherwise.
func (w *Local) rememberGroups(ctx context.Context, layers []image.Layer, op *planner.Copy, source string, compute func() ([][2]string, error)) ([][2]string, error) {
	var question cache.Hash
	question.Field("files of layers", image.ChainID(layers).String())
	question.Field("source", source)
	question.Field("exclude", op.Exclude...)
	question.Field("parents", fmt.Sprint(op.Parents))
	value, err := w.remember(ctx, &question, func() (string, error) {
		groups, err := compute()
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(groups)
		return string(b), err
	})
	if err != nil {
		return nil, err
	}
	var groups [][2]string
	if err := json.Unmarshal([]byte(value), &groups); err != nil {
		return compute()
	}
	return groups, nil
}

// describeTree pairs what source selects of tree with digests: name of a file or directory, SHA-256 in hex.
func describeTree(ctx context.Context, tree snapshot.Tree, op *planner.Copy, source string) ([][2]string, error) {
	found, err := selections(ctx, tree, op, source)
	if err != nil {
		return nil, err
	}
	var groups [][2]string
	for i := range found {
		g, err := found[i].describe(ctx)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g...)
	}
	return groups, nil
}

// describe hashes a selection in groups. How deep the groups may go and which files must be read is only known after a
// walk, so that it takes two; one that guesses right, that a large tree is grouped by the directories at its top and that
// all digests are known, is enough.
func (s *selection) describe(ctx context.Context) ([][2]string, error) {
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	const guess = 1
	g := newGrouper(s, guess)
	var perDepth []int
	var unknown []string
	err := s.walk(ctx, func(it *item) error {
		for len(perDepth) <= it.depth {
			perDepth = append(perDepth, 0)
		}
		perDepth[it.depth]++
		if it.sum == nil && it.entry.Mode&syscall.S_IFMT == syscall.S_IFREG {
			unknown = append(unknown, s.path(it))
		}
		if len(unknown) > 0 {
			return nil
		}
		return g.add(it)
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
	if len(unknown) > 0 || deepest != guess {
		if err := filetree.Hash(ctx, s.tree, unknown); err != nil {
			return nil, err
		}
		g = newGrouper(s, deepest)
		if err := s.walk(ctx, g.add); err != nil {
			return nil, err
		}
	}
	g.flush()
	return g.groups, nil
}

// A grouper hashes items into groups: one for each item down to the depth deepest, with all that is beneath it.
type grouper struct {
	sel     *selection
	deepest int
	hash    hash.Hash
	buf     []byte
	links   map[uint64]string // first path of each inode that has several
	name    string            // of the current group
	groups  [][2]string
}

func newGrouper(s *selection, deepest int) *grouper {
	return &grouper{sel: s, deepest: deepest, hash: sha256.New(), links: make(map[uint64]string)}
}

// flush ends the current group.
func (g *grouper) flush() {
	g.write()
	if g.name != "" {
		g.groups = append(g.groups, [2]string{g.name, hex.EncodeToString(g.hash.Sum(nil))})
	}
	g.hash.Reset()
}

func (g *grouper) write() {
	g.hash.Write(g.buf)
	g.buf = g.buf[:0]
}

// add writes everything about an item that its copy will have.
func (g *grouper) add(it *item) error {
	if it.depth <= g.deepest {
		g.flush()
		g.name = path.Join(g.sel.named, it.rel())
	}
	e := it.entry
	switch {
	case it.depth == 0 && isDir(e):
		g.text("directory") // whose own mode and owner are not copied
		return nil
	case it.depth == 0:
		g.text(g.sel.base)
	default:
		g.text(it.dir)
		g.text(e.Name)
	}
	g.number(uint64(e.Mode), uint64(e.UID), uint64(e.GID))
	if it.onPath {
		g.text("on the way")
	}
	g.number(uint64(len(e.Xattrs)))
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		g.text(name)
		g.text(e.Xattrs[name])
	}
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		g.text(e.Link)
	case syscall.S_IFCHR, syscall.S_IFBLK:
		g.number(e.Rdev)
	case syscall.S_IFREG:
		if err := g.content(it); err != nil {
			return err
		}
	}
	if len(g.buf) > 32<<10 {
		g.write()
	}
	return nil
}

// content adds a file's digest, and which earlier file it is a hard link of.
func (g *grouper) content(it *item) error {
	sum := it.sum
	if sum == nil {
		known, err := g.sel.tree.Sum(g.sel.path(it))
		if err != nil {
			return err
		}
		sum = &known
	}
	g.buf = append(g.buf, sum[:]...)
	if it.entry.Nlink > 1 {
		first, ok := g.links[it.entry.Inode]
		if !ok {
			g.links[it.entry.Inode] = it.rel()
		}
		g.text(first)
	}
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
