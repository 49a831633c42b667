package snapshot

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Commit writes the changes as a layer, staged. What is the same below, its time and content too, is left out, so that the
// layer depends on what the trees are and not on how one came from the other; names that are gone become whiteouts,
// and directories on the way to a change are written as they are. Times after epoch are set to it if epoch is not nil.
func (s *Store) Commit(ctx context.Context, c *Changes, epoch *time.Time) (layer image.Layer, err error) {
	w := s.newLayerWriter(ctx)
	defer func() { err = errors.Join(err, w.Close()) }()
	k := committer{Changes: c, changeWriter: changeWriter{layer: w}, ctx: ctx, epoch: epoch}
	k.children()
	k.findLinks()
	if err := k.root(); err != nil {
		return image.Layer{}, err
	}
	return w.Commit(ctx)
}

// A committer writes changes.
type committer struct {
	*Changes
	changeWriter
	ctx   context.Context
	epoch *time.Time

	kids  []int32 // changes, by directory
	first []int32 // by change of a directory: where its kids begin
	links map[int32]*changeLinks
}

// changeLinks are the names of one file.
type changeLinks struct {
	members []int32
	judged  bool
	same    bool   // all of them are one file below, too, and unchanged
	written string // path
}

// children sorts the changes by directory.
func (k *committer) children() {
	k.first = make([]int32, len(k.nodes)+1)
	for _, n := range k.nodes[1:] {
		if n.state != replaced {
			k.first[n.parent+1]++
		}
	}
	for i := 1; i < len(k.first); i++ {
		k.first[i] += k.first[i-1]
	}
	k.kids = make([]int32, k.first[len(k.nodes)])
	next := slices.Clone(k.first)
	for id, n := range k.nodes[1:] {
		if n.state != replaced {
			k.kids[next[n.parent]] = int32(id + 1)
			next[n.parent]++
		}
	}
}

// findLinks finds files that have several names.
func (k *committer) findLinks() {
	var ids []int32
	for id := range k.nodes {
		if n := &k.nodes[id]; n.group != 0 && n.state == put && k.reachable(int32(id)) {
			ids = append(ids, int32(id))
		}
	}
	slices.SortFunc(ids, func(a, b int32) int {
		x, y := &k.nodes[a], &k.nodes[b]
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.inode, y.inode), cmp.Compare(a, b))
	})
	k.links = make(map[int32]*changeLinks)
	for len(ids) > 0 {
		first, n := &k.nodes[ids[0]], 1
		for n < len(ids) && k.nodes[ids[n]].group == first.group && k.nodes[ids[n]].inode == first.inode {
			n++
		}
		if n > 1 {
			l := &changeLinks{members: ids[:n]}
			for _, id := range ids[:n] {
				k.links[id] = l
			}
		}
		ids = ids[n:]
	}
}

// reachable reports whether a change can still be reached: none of its directories was replaced.
func (k *committer) reachable(id int32) bool {
	for id != 0 {
		if k.nodes[id].state == replaced {
			return false
		}
		id = k.nodes[id].parent
	}
	return true
}

// root writes everything.
func (k *committer) root() error {
	below, err := k.below.Lstat(".")
	if err != nil {
		return err
	}
	e := below
	if k.nodes[0].state == put {
		e = k.clamp(k.nodes[0].entry())
	}
	// A root that stays is not written at all: it has to be in no layer.
	d := &wayDir{path: ".", entry: e, whole: k.nodes[0].opaque, done: true}
	k.enter(d)
	if k.nodes[0].state == put && !sameEntry(&e, &below) {
		if err := k.layer.Add(".", e, nil); err != nil {
			return err
		}
	}
	return k.dir(0, d, &below)
}

// clamp applies the epoch.
func (k *committer) clamp(e Entry) Entry {
	if k.epoch != nil && e.ModTime.After(*k.epoch) {
		e.ModTime = *k.epoch
	}
	return e
}

// dir writes what changes in a directory, in order of names. below is the directory that lies below, or nil.
func (k *committer) dir(id int32, d *wayDir, below *Entry) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	var gone []Entry // names below that are not seen, unless they are put again
	if d.whole && below != nil {
		var err error
		if gone, err = filetree.ReadDir(k.below, d.path); err != nil {
			return err
		}
	}
	kids := k.kids[k.first[id]:k.first[id+1]]
	slices.SortFunc(kids, func(a, b int32) int { return strings.Compare(k.nodes[a].name, k.nodes[b].name) })
	name := func(kid *int32) string { return k.nodes[*kid].name }
	return filetree.Merge(kids, gone, name, filetree.EntryName, func(kid *int32, under *Entry) error {
		if kid == nil {
			return k.whiteout(filetree.Join(d.path, under.Name))
		}
		at := filetree.Join(d.path, k.nodes[*kid].name)
		if under == nil && below != nil && !d.whole {
			e, err := k.below.Lstat(at)
			if err == nil {
				under = &e
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return k.change(*kid, d, at, under)
	})
}

// change writes one change of a directory.
func (k *committer) change(id int32, in *wayDir, path string, below *Entry) error {
	n := &k.nodes[id]
	switch {
	case n.state == removed:
		if below == nil {
			return nil
		}
		return k.whiteout(path)
	case n.isDir():
		if below != nil && below.Mode&unix.S_IFMT != unix.S_IFDIR {
			below = nil
		}
		var e Entry
		if n.state == put {
			e = k.clamp(n.entry())
		} else if below != nil { // else its directory is gone, and it with it
			e = *below
		}
		d := &wayDir{path: path, entry: e, whole: in.whole || n.opaque}
		k.enter(d)
		defer k.leave()
		if n.state == put && (below == nil || !sameEntry(&e, below)) {
			if err := k.flush(); err != nil {
				return err
			}
		}
		return k.dir(id, d, below)
	}
	same, err := k.unchanged(id, path, below)
	if err != nil || same {
		return err
	}
	return k.add(id, path)
}

// add writes a file, or a link to it if it has been written under another name.
func (k *committer) add(id int32, path string) error {
	if err := k.flush(); err != nil {
		return err
	}
	n := &k.nodes[id]
	if l := k.links[id]; l != nil {
		if l.written != "" {
			return k.layer.Link(path, l.written)
		}
		l.written = path
	}
	return k.layer.Add(path, k.clamp(n.entry()), n.open)
}

// unchanged reports whether a file is as it is below, content and all.
func (k *committer) unchanged(id int32, path string, below *Entry) (bool, error) {
	l := k.links[id]
	if l == nil {
		return k.sameFile(&k.nodes[id], path, below)
	}
	if l.judged {
		return l.same, nil
	}
	l.judged = true
	inode := uint64(0)
	for i, member := range l.members {
		path := k.pathOf(member)
		below, err := k.below.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if i > 0 && below.Inode != inode {
			return false, nil
		}
		inode = below.Inode
	}
	var err error
	l.same, err = k.sameFile(&k.nodes[id], path, below)
	return l.same, err
}

// sameFile compares a file with what lies below: first what costs nothing.
func (k *committer) sameFile(n *change, path string, below *Entry) (bool, error) {
	if below == nil {
		return false, nil
	}
	e := k.clamp(n.entry())
	if !sameEntry(&e, below) || e.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return false, nil
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || e.Size == 0 {
		return true, nil
	}
	return k.sameContent(n, path)
}

// sameContent compares a file with the one of the same size below.
func (k *committer) sameContent(n *change, path string) (bool, error) {
	a, err := n.open()
	if err != nil {
		return false, err
	}
	b, err := k.below.Open(path)
	if err != nil {
		return false, errors.Join(err, a.Close())
	}
	return k.same(a, b, n.size)
}
