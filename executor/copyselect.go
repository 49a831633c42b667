package executor

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A selection is what one source of a COPY stands for: a file, or a directory whose content is copied.
type selection struct {
	tree    snapshot.Tree
	named   string // absolute path as the build file means it, links not followed
	root    string // the same in tree, links followed
	base    string // its name in a directory that it is copied into
	entry   snapshot.Entry
	include []string // --parents: only what matches, relative to root
	exclude []string // relative to root
}

// An item is one selected file. It is valid until the function that it was handed to returns.
type item struct {
	dir    string // where it is, relative to the selection's root; "." is the root
	entry  *snapshot.Entry
	sum    *filetree.Sum // of a regular file, if it is known
	depth  int           // 0 is the root itself
	onPath bool          // a directory that is only copied because something beneath it is
}

// rel is the path relative to the selection's root.
func (it *item) rel() string {
	if it.depth == 0 {
		return "."
	}
	return join(it.dir, it.entry.Name)
}

// selections finds what a source means in tree. A wildcard may mean nothing; a literal path that is not there is a
// [NotFoundError].
func selections(ctx context.Context, tree snapshot.Tree, op *planner.Copy, source string) ([]selection, error) {
	var include []string
	if op.Parents {
		pivot, pattern, ok := strings.Cut(source, "/./")
		if !ok {
			pivot, pattern = "/", source
		}
		source, pattern = path.Join("/", pivot), path.Join("/", pattern)
		if !hasWildcard(source) && !hasWildcard(pattern) {
			if err := exists(tree, path.Join(source, pattern)); err != nil {
				return nil, err
			}
		}
		if pattern != "/" {
			include = []string{pattern[1:]}
		}
	}
	names, err := expand(ctx, tree, path.Join("/", source))
	if err != nil {
		return nil, err
	}
	found := make([]selection, 0, len(names))
	for _, name := range names {
		root, err := filetree.Resolve(tree.Lstat, inTree(name), true)
		if err != nil {
			return nil, notFound(name, err)
		}
		e, err := tree.Lstat(root)
		if err != nil {
			return nil, notFound(name, err)
		}
		found = append(found, selection{
			tree: tree, named: name, root: root, base: path.Base(name), entry: e, include: include, exclude: op.Exclude,
		})
	}
	return found, nil
}

// exists tells whether there is something at name, with no link on the way: a pattern does not match beyond them.
func exists(tree snapshot.Tree, name string) error {
	parent := inTree(path.Dir(name))
	resolved, err := filetree.Resolve(tree.Lstat, parent, true)
	if err == nil && resolved != parent {
		err = fs.ErrNotExist
	}
	if err == nil {
		_, err = tree.Lstat(inTree(name))
	}
	if err != nil {
		return notFound(name, err)
	}
	return nil
}

func (s *selection) isDir() bool { return s.entry.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// path is where it is in the selection's tree.
func (s *selection) path(it *item) string { return join(s.root, it.rel()) }

// load reads ahead what a walk will need, where that is faster than one directory after the other.
func (s *selection) load(ctx context.Context) error {
	if !s.isDir() || len(s.include) > 0 {
		return nil
	}
	return s.tree.Load(ctx, s.root)
}

// walk calls fn for the root and then for everything selected beneath it: directories before what is in them, names in
// order. A directory that is not selected itself comes right before the first thing in it that is.
func (s *selection) walk(ctx context.Context, fn func(it *item) error) error {
	w := selector{ctx: ctx, sel: s, fn: fn}
	var err error
	if w.include, err = newPatterns(s.include); err != nil {
		return fmt.Errorf("--parents %s: %w", strings.Join(s.include, " "), err)
	}
	if w.exclude, err = newPatterns(s.exclude); err != nil {
		return fmt.Errorf("--exclude %s: %w", strings.Join(s.exclude, " "), err)
	}
	if err := fn(&item{dir: ".", entry: &s.entry}); err != nil || !s.isDir() {
		return err
	}
	return w.dir(".", 1, matched{}, matched{})
}

// A selector is one walk over a selection.
type selector struct {
	ctx              context.Context
	sel              *selection
	fn               func(it *item) error
	include, exclude *patterns
	pending          []item // directories above, not selected and not yet handed out
	it               item   // the one that is handed out: there are too many to make each
}

// dir walks a directory, relative to the selection's root, whose files are at depth.
func (w *selector) dir(rel string, depth int, include, exclude matched) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.sel.tree.List(join(w.sel.root, rel), func(e *snapshot.Entry, sum *filetree.Sum) error {
		w.it = item{dir: rel, entry: e, sum: sum, depth: depth}
		if w.include == nil && w.exclude == nil { // the common case, and the one that has to be fast
			if err := w.fn(&w.it); err != nil || !isDir(e) {
				return err
			}
			return w.dir(join(rel, e.Name), depth+1, matched{}, matched{})
		}
		return w.matching(w.it, include, exclude)
	})
}

// matching hands out an item if the patterns let it, and walks it if they may let something in it.
func (w *selector) matching(it item, include, exclude matched) error {
	name := it.rel()
	in, include, err := w.include.match(name, include, true)
	if err != nil {
		return err
	}
	out, exclude, err := w.exclude.match(name, exclude, false)
	if err != nil {
		return err
	}
	if in && !out {
		if err := w.emit(&it); err != nil {
			return err
		}
	}
	if !isDir(it.entry) || out && !w.exclude.mayReach(name, true) || !in && !w.include.mayReach(name, false) {
		return nil
	}
	if !in || out {
		entry := *it.entry
		it.entry, it.onPath = &entry, true
		w.pending = append(w.pending, it)
		defer func(n int) { w.pending = w.pending[:min(n, len(w.pending))] }(len(w.pending) - 1)
	}
	return w.dir(name, it.depth+1, include, exclude)
}

// emit hands out an item, after the directories above it that were not yet.
func (w *selector) emit(it *item) error {
	for i := range w.pending {
		if err := w.fn(&w.pending[i]); err != nil {
			return err
		}
	}
	w.pending = w.pending[:0]
	return w.fn(it)
}
