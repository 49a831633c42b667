package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Shared are the directories that several sources of one build read: each is opened once, and its files are digested once. Safe for
// concurrent use. Close it after the sources. A nil *Shared shares nothing.
type Shared struct {
	mu   sync.Mutex // guards all below
	dirs []*Dir
	all  []filetree.Tree // that have a name
}

// open opens a directory as OpenDir does, or gives the one that was opened before with the same patterns. It reports whether it is
// the caller's to close. When ctx ends, which is the build's, no directory in it is read any more.
func (sh *Shared) open(ctx context.Context, dir string, ignore []string, statsFile string) (d *Dir, shared bool, err error) {
	if sh == nil {
		if d, err = OpenDir(dir, ignore, statsFile); err == nil {
			d.ctx = ctx
		}
		return d, false, err
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, d := range sh.dirs {
		if d.path == dir && slices.Equal(d.ignore, ignore) {
			return d, true, nil
		}
	}
	if d, err = OpenDir(dir, ignore, statsFile); err != nil {
		return nil, true, err
	}
	d.ctx = ctx
	sh.dirs = append(sh.dirs, d)
	return d, true, nil
}

// Name is what a tree is called among all those of the build: the same tree has always the same name.
func (sh *Shared) Name(t filetree.Tree) string {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i := slices.Index(sh.all, t)
	if i < 0 {
		i = len(sh.all)
		sh.all = append(sh.all, t)
	}
	return fmt.Sprintf("context %d", i)
}

// Trees are the trees that have a name, by it.
func (sh *Shared) Trees() map[string]filetree.Tree {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	trees := map[string]filetree.Tree{}
	for i, t := range sh.all {
		trees[fmt.Sprintf("context %d", i)] = t
	}
	return trees
}

// Close closes the directories.
func (sh *Shared) Close() error {
	if sh == nil {
		return nil
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var errs []error
	for _, d := range sh.dirs {
		errs = append(errs, d.Close())
	}
	sh.dirs = nil
	return errors.Join(errs...)
}
