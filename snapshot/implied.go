package snapshot

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Layers of other builders may have a file without the directories it is in. A view takes the metadata of such an implied
// directory from the layers below, but overlayfs shows that of the topmost layer, which for want of better says 0755, root.
// So where it matters, one more directory is stacked on the layers, with nothing in it but the directories concerned, as
// they should be.

// impliedDirs returns a directory to stack on the layers so that overlayfs shows the directories that are wrong as the view
// does, or -1 if there are none. The Store owns the descriptor.
func (s *Store) impliedDirs(ctx context.Context, layers []image.Layer, v *View, wrong []string) (_ int, err error) {
	if len(wrong) == 0 {
		return -1, nil
	}
	return s.layers.get("implied directories "+image.ChainID(layers), func() (int, error) {
		top := &dirNode{}
		if top.entry, err = v.Lstat("."); err != nil {
			return -1, err
		}
		for _, path := range wrong {
			if _, err := top.add(v, path); err != nil {
				return -1, err
			}
		}
		dir, err := s.session.newDir(s.drafts())
		if err != nil {
			return -1, err
		}
		return s.copyEntry(ctx, top.unpackEntry(), filepath.Join(dir, "implied"), nil)
	})
}

// wrongRoot reports whether the topmost layer does not say what the root is like.
func (v *View) wrongRoot() bool {
	return len(v.root) > 1 && explicit(v.root) != &v.root[0]
}

// wrongDirs lists the directories, but for the root, whose topmost layer only implies them while one below it has them.
func (v *View) wrongDirs() ([]string, error) {
	var wrong []string
	for k := range v.root {
		r := &v.root[k]
		if k == len(v.layers)-1 || !r.Implies() {
			continue
		}
		if err := v.searchImplied(r, ".", &wrong); err != nil {
			return nil, err
		}
	}
	return wrong, nil
}

// searchImplied looks for implied directories in a directory of one layer.
func (v *View) searchImplied(dir *viewFile, path string, wrong *[]string) error {
	x := v.layers[dir.layer].index
	return x.List(&dir.Inode, func(name []byte, slot uint64) error {
		i, err := x.Inode(slot)
		if err != nil || !i.IsDir() {
			return err
		}
		sub := filetree.Join(path, string(name))
		found, err := v.find(sub)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && !found[0].IsDir() {
			return nil // hidden by a layer above
		}
		if err != nil {
			return err
		}
		if found[0].layer == dir.layer && i.Implied() && explicit(found) != &found[0] {
			*wrong = append(*wrong, sub)
		}
		return v.searchImplied(&viewFile{dir.layer, i}, sub, wrong)
	})
}

// A dirNode is a directory that has nothing in it but other such ones.
type dirNode struct {
	entry Entry
	kids  []*dirNode
}

// add returns the node for a path, made with those above it if need be.
func (n *dirNode) add(v *View, path string) (*dirNode, error) {
	if path == "." {
		return n, nil
	}
	parent, base := filetree.Split(path)
	dir, err := n.add(v, parent)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(dir.kids, func(k *dirNode) bool { return k.entry.Name == base })
	if at >= 0 {
		return dir.kids[at], nil
	}
	e, err := v.Lstat(path)
	if err != nil {
		return nil, err
	}
	kid := &dirNode{entry: e}
	dir.kids = append(dir.kids, kid)
	return kid, nil
}

func (n *dirNode) unpackEntry() unpackEntry {
	return unpackEntry{Entry: n.entry, list: func() ([]unpackEntry, error) {
		kids := make([]unpackEntry, len(n.kids))
		for i, k := range n.kids {
			kids[i] = k.unpackEntry()
		}
		return kids, nil
	}}
}
