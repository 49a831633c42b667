package snapshot

import (
	"context"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
)

// Layers of other builders may have a file without the directories it is in. A view takes the metadata of such an implied
// directory from the layers below, but overlayfs shows that of the topmost layer, which for want of better says 0755, root.
// So where it matters, one more directory is stacked on the layers, with nothing in it but the directories concerned, as
// they should be.

// impliedDirs returns a directory to stack on the layers so that overlayfs shows the directories that are wrong as the view
// does, or -1 if there are none. The Store owns the descriptor.
func (s *Store) impliedDirs(ctx context.Context, layers []image.Layer, v *View, wrong *dirNode) (int, error) {
	if wrong == nil {
		return -1, nil
	}
	return s.layers.get("implied directories "+image.ChainID(layers), func() (_ int, err error) {
		if wrong.entry, err = v.Lstat("."); err != nil {
			return -1, err
		}
		dir, err := s.session.newDir(s.drafts())
		if err != nil {
			return -1, err
		}
		return s.copyEntry(ctx, wrong.unpackEntry(), filepath.Join(dir, "implied"), nil)
	})
}

// wrongRoot reports whether the topmost layer does not say what the root is like.
func (v *View) wrongRoot() bool {
	return len(v.root) > 1 && explicit(v.root) != &v.root[0]
}

// A dirNode is a directory that has nothing in it but other such ones.
type dirNode struct {
	entry Entry
	kids  map[string]*dirNode
}

// wrongDirs is a tree of the directories whose topmost layer only implies them while one below it has them, and those that lead there;
// nil if there are none. The root counts as right.
func (v *View) wrongDirs(ctx context.Context) (*dirNode, error) {
	top, some := &dirNode{}, false
	for k := range v.root {
		r := &v.root[k]
		if k == len(v.layers)-1 || !r.Implies() {
			continue
		}
		wrong, err := v.searchImplied(ctx, v.root, r, top)
		if err != nil {
			return nil, err
		}
		some = some || wrong
	}
	if !some {
		return nil, nil
	}
	return top, nil
}

// searchImplied looks for implied directories in a directory of one layer, and enters in its node the wrong ones, of which it reports
// whether there are any. in is what all layers have of the directory.
func (v *View) searchImplied(ctx context.Context, in []viewFile, dir *viewFile, node *dirNode) (some bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	x := v.layers[dir.layer].index
	err = x.List(&dir.Inode, func(name []byte, slot uint64) error {
		i, err := x.Inode(slot)
		if err != nil || !i.IsDir() {
			return err
		}
		base := string(name)
		found, err := v.step(in, base)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && !found[0].IsDir() {
			return nil // hidden by a layer above
		}
		if err != nil {
			return err
		}
		kid := node.kids[base]
		if kid == nil {
			kid = &dirNode{}
		}
		wrong, err := v.searchImplied(ctx, found, &viewFile{dir.layer, i}, kid)
		if err != nil {
			return err
		}
		if wrong || found[0].layer == dir.layer && i.Implied() && explicit(found) != &found[0] {
			some = true
			return v.enter(node, base, kid, found)
		}
		return nil
	})
	return some, err
}

// enter puts a directory into the node of the one that it is in.
func (v *View) enter(node *dirNode, base string, kid *dirNode, found []viewFile) (err error) {
	if node.kids == nil {
		node.kids = make(map[string]*dirNode)
	}
	node.kids[base] = kid
	kid.entry, err = v.entry(base, explicit(found))
	return err
}

func (n *dirNode) unpackEntry() unpackEntry {
	return unpackEntry{Entry: n.entry, list: func() ([]unpackEntry, error) {
		kids := make([]unpackEntry, 0, len(n.kids))
		for _, k := range n.kids {
			kids = append(kids, k.unpackEntry())
		}
		return kids, nil
	}}
}
