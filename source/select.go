package source

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A Query says what of a tree one source of a COPY selects.
type Query struct {
	Path    string   // from the root; may hold wildcards; with Parents, "/./" marks the pivot
	Exclude []string // patterns, relative to what Path means
	Parents bool     // keep the directories below the pivot
}

// A Selection is what a source of a COPY stands for: a file, or a directory whose content is copied.
type Selection struct {
	Tree  filetree.Tree
	Named string         // absolute path as the build file means it, links not followed
	Root  string         // the same in Tree, links followed
	Base  string         // its name in a directory that it is copied into
	Entry filetree.Entry // of Root

	include []string // --parents: only what matches, relative to Root
	exclude []string // relative to Root
	mounted bool     // what is at Root is seen itself, not only what is in it
}

// An Item is one selected file. It is valid until the function that it was handed to returns.
type Item struct {
	Entry  *filetree.Entry
	OnPath bool // a directory that is only copied because something beneath it is
	Depth  int  // 0 is the root itself

	dir string        // where it is, relative to the selection's root; "." is the root
	sum *filetree.Sum // of a regular file, if it is known
}

// Rel is the path relative to the selection's root.
func (it *Item) Rel() string {
	if it.Depth == 0 {
		return "."
	}
	return filetree.Join(it.dir, it.Entry.Name)
}

// Select finds what a query means in tree. A wildcard may mean nothing; a literal path that is not there is a
// [NotFoundError].
func Select(ctx context.Context, tree filetree.Tree, q Query) ([]Selection, error) {
	var include []string
	source := q.Path
	if q.Parents {
		pivot, pattern, ok := strings.Cut(source, "/./")
		if !ok {
			pivot, pattern = "/", source
		}
		source, pattern = path.Join("/", pivot), path.Join("/", pattern)
		if !hasWildcard(source) && !hasWildcard(pattern) {
			if err := mustExist(tree, path.Join(source, pattern)); err != nil {
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
	found := make([]Selection, 0, len(names))
	for _, name := range names {
		root, err := filetree.Resolve(tree.Lstat, inTree(name))
		if err != nil {
			return nil, notFound(name, err)
		}
		e, err := tree.Lstat(root)
		if err != nil {
			return nil, notFound(name, err)
		}
		found = append(found, Selection{
			Tree: tree, Named: name, Root: root, Base: path.Base(name), Entry: e, include: include, exclude: q.Exclude,
		})
	}
	return found, nil
}

// mustExist is an error unless there is something at name, with no link on the way: a pattern does not match beyond them.
func mustExist(tree filetree.Tree, name string) error {
	parent := inTree(path.Dir(name))
	resolved, err := filetree.Resolve(tree.Lstat, parent)
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

// IsDir reports whether a directory is selected.
func (s *Selection) IsDir() bool { return isDir(&s.Entry) }

// Path is where it is in the selection's tree.
func (s *Selection) Path(it *Item) string { return filetree.Join(s.Root, it.Rel()) }

// Load reads ahead what a walk will need, where that is faster than one directory after the other.
func (s *Selection) Load(ctx context.Context) error {
	if !s.IsDir() || len(s.include) > 0 {
		return nil
	}
	return s.Tree.Load(ctx, s.Root)
}

// Walk calls fn for the root and then for everything selected beneath it: directories before what is in them, names in
// order. A directory that is not selected itself comes right before the first thing in it that is.
func (s *Selection) Walk(ctx context.Context, fn func(it *Item) error) error {
	w := selector{ctx: ctx, sel: s, fn: fn}
	var err error
	if w.include, err = newPatterns(s.include); err != nil {
		return fmt.Errorf("--parents %.200s: %w", strings.Join(s.include, " "), err)
	}
	if w.exclude, err = newPatterns(s.exclude); err != nil {
		return fmt.Errorf("--exclude %.200s: %w", strings.Join(s.exclude, " "), err)
	}
	if err := fn(&Item{dir: ".", Entry: &s.Entry}); err != nil || !s.IsDir() {
		return err
	}
	return w.dir(".", 1, matched{}, matched{})
}

// A selector is one walk over a selection.
type selector struct {
	ctx              context.Context
	sel              *Selection
	fn               func(it *Item) error
	include, exclude *patterns
	pending          []Item // directories above, not selected and not yet handed out
	it               Item   // the one that is handed out: there are too many to make each
}

// dir walks a directory, relative to the selection's root, whose files are at depth.
func (w *selector) dir(rel string, depth int, include, exclude matched) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.sel.Tree.List(filetree.Join(w.sel.Root, rel), func(e *filetree.Entry, sum *filetree.Sum) error {
		w.it = Item{dir: rel, Entry: e, sum: sum, Depth: depth}
		if w.include == nil && w.exclude == nil { // the common case, and the one that has to be fast
			if err := w.fn(&w.it); err != nil || !isDir(e) {
				return err
			}
			return w.dir(filetree.Join(rel, e.Name), depth+1, matched{}, matched{})
		}
		return w.matching(w.it, include, exclude)
	})
}

// matching hands out an item if the patterns let it, and walks it if they may let something in it.
func (w *selector) matching(it Item, include, exclude matched) error {
	if err := w.ctx.Err(); err != nil { // many patterns take milliseconds for each name
		return err
	}
	name := it.Rel()
	in, out := true, false
	var err error
	if w.include != nil {
		if in, include, err = w.include.match(name, include); err != nil {
			return err
		}
	}
	if w.exclude != nil {
		if out, exclude, err = w.exclude.match(name, exclude); err != nil {
			return err
		}
	}
	if in && !out {
		if err := w.emit(&it); err != nil {
			return err
		}
	}
	if !isDir(it.Entry) || out && !w.exclude.mayReopen(name) || !in && !w.include.mayMatch(name) {
		return nil
	}
	if !in || out {
		entry := *it.Entry
		it.Entry, it.OnPath = &entry, true
		w.pending = append(w.pending, it)
		defer func(n int) { w.pending = w.pending[:min(n, len(w.pending))] }(len(w.pending) - 1)
	}
	return w.dir(name, it.Depth+1, include, exclude)
}

// emit hands out an item, after the directories above it that were not yet.
func (w *selector) emit(it *Item) error {
	for i := range w.pending {
		if err := w.fn(&w.pending[i]); err != nil {
			return err
		}
	}
	w.pending = w.pending[:0]
	return w.fn(it)
}
