package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"

	"github.com/forge-build/forge/snapshot/erofs"
)

// A View is the tree that layers sum up to, read through their indexes: only what is asked for is looked at. Whiteouts
// and opaque directories are applied and not seen. A Tree; safe for concurrent use.
type View struct {
	layers []*openLayer // topmost first
	root   []viewFile   // the roots of the layers, as far as they are seen

	parent atomic.Pointer[viewDir] // found last: the next path is often in it too
}

var _ Tree = (*View)(nil)

// A viewFile is a file of one layer.
type viewFile struct {
	layer int
	erofs.Inode
}

// A viewDir is a directory of a view: what each layer has of it, topmost first.
type viewDir struct {
	path string
	in   []viewFile
}

// View reads layers without mounting or privilege, lowest first, as one tree. Layers that are not here yet fail with
// fs.ErrNotExist. An index that is missing or damaged is made. Views of one Store share what they read of a layer; Close
// gives it back.
func (s *Store) View(ctx context.Context, layers []image.Layer) (*View, error) {
	parts := make([]part, len(layers))
	for k := range layers {
		parts[k] = part{layers[k].DiffID, layers[k : k+1 : k+1]}
	}
	return s.viewParts(ctx, parts)
}

// viewParts is View of parts, lowest first.
func (s *Store) viewParts(ctx context.Context, parts []part) (*View, error) {
	v := &View{layers: make([]*openLayer, 0, len(parts))}
	for _, p := range slices.Backward(parts) {
		layer, err := s.openLayer(ctx, p)
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		v.layers = append(v.layers, layer)
	}
	v.findRoots()
	return v, nil
}

// seen are the parts that are seen, lowest first, and of one that comes twice, as a layer of a step that changes nothing does, the upper.
func (v *View) seen() []part {
	list := make([]part, 0, len(v.root))
	seen := make(map[digest.Digest]bool, len(v.root))
	for k := range v.root {
		if p := v.layers[k].part; !seen[p.id] {
			seen[p.id] = true
			list = append(list, p)
		}
	}
	slices.Reverse(list)
	return list
}

// findRoots finds the roots of the layers, as far as they are seen.
func (v *View) findRoots() {
	v.root = make([]viewFile, 0, len(v.layers))
	for k, l := range v.layers {
		v.root = append(v.root, viewFile{k, l.root})
		if l.root.Opaque() {
			return
		}
	}
}

// Close gives back what the view holds. Contents that are still open may fail.
func (v *View) Close() error {
	var err error
	for _, l := range v.layers {
		err = errors.Join(err, l.release())
	}
	v.layers, v.root = nil, nil
	v.parent.Store(nil)
	return err
}

// pathError is the error of a method of a tree.
func pathError(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// find returns the file at a path: of a directory what each layer has of it, of anything else one.
func (v *View) find(path string) ([]viewFile, error) {
	if path == "." {
		if len(v.root) == 0 {
			return []viewFile{{layer: -1, Inode: erofs.Inode{Mode: unix.S_IFDIR | 0o755, Nlink: 2}}}, nil
		}
		return v.root, nil
	}
	parent, base := filetree.Split(path)
	dir := v.parent.Load()
	if dir == nil || dir.path != parent {
		in, err := v.find(parent)
		if err != nil {
			return nil, err
		}
		dir = &viewDir{parent, in}
		v.parent.Store(dir)
	}
	return v.step(dir.in, base)
}

// step goes down into a directory.
func (v *View) step(dir []viewFile, base string) (found []viewFile, err error) {
	if !dir[0].IsDir() {
		return nil, unix.ENOTDIR
	}
	if !erofs.ValidName([]byte(base)) || base == "." || base == ".." {
		return nil, unix.ENOENT
	}
	for _, d := range dir {
		if d.layer < 0 {
			break
		}
		i, ok, err := v.layers[d.layer].index.Child(&d.Inode, base)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if i.IsWhiteout() || len(found) > 0 && !i.IsDir() {
			break
		}
		found = append(found, viewFile{d.layer, i})
		if !i.IsDir() || i.Opaque() {
			break
		}
	}
	if len(found) == 0 {
		return nil, unix.ENOENT
	}
	return found, nil
}

// explicit is that of a directory's layers which says its metadata: the topmost that has the directory itself, rather than
// only something in it.
func explicit(found []viewFile) *viewFile {
	for k := range found {
		if !found[k].Implied() {
			return &found[k]
		}
	}
	return &found[0]
}

// entry describes a file.
func (v *View) entry(name string, f *viewFile) (Entry, error) {
	if f.layer < 0 {
		return Entry{Name: name, Mode: unix.S_IFDIR | 0o755, Nlink: 2, ModTime: time.Unix(0, 0), Inode: f.inode()}, nil
	}
	e, err := v.layers[f.layer].index.Entry(name, &f.Inode)
	e.Inode = f.inode()
	return e, err
}

// inode is a number for the file that no other file of the view has.
func (f *viewFile) inode() uint64 { return uint64(f.layer+1)<<40 | uint64(f.Slot) }

// layerOf is which layer a file of a view is of, by its inode: 0 is the topmost.
func layerOf(inode uint64) int { return int(inode>>40) - 1 }

// Lstat describes the file at name.
func (v *View) Lstat(name string) (Entry, error) {
	found, err := v.find(name)
	if err != nil {
		return Entry{}, pathError("lstat", name, err)
	}
	_, base := filetree.Split(name)
	e, err := v.entry(base, explicit(found))
	if err != nil {
		return Entry{}, pathError("lstat", name, err)
	}
	return e, nil
}

// List implements [Tree].
func (v *View) List(name string, fn func(e *Entry, sum *filetree.Sum) error) error {
	dir, err := v.find(name)
	if err == nil && !dir[0].IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return pathError("readdir", name, err)
	}
	in := &viewDir{name, dir}
	v.parent.Store(in) // what is in it will be asked for next
	l := viewList{view: v, dir: in, fn: fn}
	return l.run()
}

// A viewList is the merge of what the layers of a view have in one directory: of each name the topmost layer's counts.
type viewList struct {
	view    *View
	dir     *viewDir
	fn      func(e *Entry, sum *filetree.Sum) error
	cursors []erofs.Cursor // topmost first, as dir.in
	sum     filetree.Sum
}

func (l *viewList) run() error {
	for k := range l.dir.in {
		if d := &l.dir.in[k]; d.layer >= 0 {
			l.cursors = append(l.cursors, l.view.layers[d.layer].index.Cursor(&d.Inode))
		}
	}
	for k := range l.cursors {
		if err := l.cursors[k].Next(); err != nil {
			return pathError("readdir", l.dir.path, err)
		}
	}
	for {
		first := -1
		for k := range l.cursors {
			if c := &l.cursors[k]; c.Name != nil && (first < 0 || string(c.Name) < string(l.cursors[first].Name)) {
				first = k
			}
		}
		if first < 0 {
			return nil
		}
		if err := l.name(first); err != nil {
			return err
		}
		name := l.cursors[first].Name
		for k := len(l.cursors) - 1; k >= first; k-- {
			if c := &l.cursors[k]; c.Name != nil && string(c.Name) == string(name) {
				if err := c.Next(); err != nil {
					return pathError("readdir", l.dir.path, err)
				}
			}
		}
	}
}

// name hands on the name at which the cursor k of the topmost layer that has it stands.
func (l *viewList) name(k int) error {
	c, layer := &l.cursors[k], l.dir.in[k].layer
	i, err := l.view.layers[layer].index.Inode(c.Slot)
	if err != nil {
		return pathError("readdir", l.dir.path, err)
	}
	if i.IsWhiteout() {
		return nil
	}
	name := string(c.Name)
	f := &viewFile{layer, i}
	if i.IsDir() && i.Implied() {
		found, err := l.view.step(l.dir.in[k:], name)
		if err != nil {
			return pathError("readdir", l.dir.path, err)
		}
		f = explicit(found)
	}
	e, err := l.view.entry(name, f)
	if err != nil {
		return pathError("readdir", l.dir.path, err)
	}
	if i.Mode&unix.S_IFMT == unix.S_IFREG {
		if sums := l.view.layers[layer].sums; sums != nil {
			if sum, ok := sums.get(i.Slot); ok {
				l.sum = sum
				return l.fn(&e, &l.sum)
			}
		}
	}
	return l.fn(&e, nil)
}

// Load implements [Tree]: what an index says is at hand.
func (v *View) Load(context.Context, string) error { return nil }
