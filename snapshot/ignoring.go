package snapshot

import (
	"io"
	"io/fs"
	"path"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Ignoring is a tree without the files that ignore patterns hide, as [OpenDir] hides them. Without patterns it is t.
func Ignoring(t Tree, patterns []string) (Tree, error) {
	g, err := newIgnorer(patterns)
	if err != nil || g == nil {
		return t, err
	}
	return &ignoringTree{tree: t, ignore: g, known: map[string]dirMatch{}}, nil
}

type ignoringTree struct {
	tree Tree

	mu     sync.Mutex // guards all below
	ignore *ignorer
	known  map[string]dirMatch // of directories
}

// match tells whether name is hidden: a hidden directory is not, as long as something in it may be seen.
func (t *ignoringTree) match(name string, dir bool) (hidden bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, err := t.lookup(name)
	if err != nil || !m.hidden {
		return false, err
	}
	return !dir || !t.ignore.mayReopen(name), nil
}

func (t *ignoringTree) lookup(name string) (dirMatch, error) {
	if name == "." {
		return dirMatch{}, nil
	}
	if m, ok := t.known[name]; ok {
		return m, nil
	}
	parent, err := t.lookup(path.Dir(name))
	if err != nil {
		return dirMatch{}, err
	}
	m, err := t.ignore.match(name, parent)
	if err == nil {
		t.known[name] = m
	}
	return m, err
}

func (t *ignoringTree) see(op, name string, e Entry) error {
	hidden, err := t.match(name, e.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err == nil && hidden {
		err = &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return err
}

// Lstat implements [Tree].
func (t *ignoringTree) Lstat(name string) (Entry, error) {
	e, err := t.tree.Lstat(name)
	if err == nil {
		err = t.see("lstat", name, e)
	}
	return e, err
}

// ReadDir implements [Tree].
func (t *ignoringTree) ReadDir(name string) ([]Entry, error) {
	if _, err := t.Lstat(name); err != nil {
		return nil, err
	}
	all, err := t.tree.ReadDir(name)
	if err != nil {
		return nil, err
	}
	seen := all[:0:0]
	for _, e := range all {
		hidden, err := t.match(path.Join(name, e.Name), e.Mode&unix.S_IFMT == unix.S_IFDIR)
		if err != nil {
			return nil, err
		}
		if !hidden {
			seen = append(seen, e)
		}
	}
	return seen, nil
}

// Open implements [Tree].
func (t *ignoringTree) Open(name string) (io.ReadCloser, error) {
	if _, err := t.Lstat(name); err != nil {
		return nil, err
	}
	return t.tree.Open(name)
}

// Digest implements [Tree].
func (t *ignoringTree) Digest(name string) (digest.Digest, error) {
	if _, err := t.Lstat(name); err != nil {
		return "", err
	}
	return t.tree.Digest(name)
}

// Resolve implements [Tree].
func (t *ignoringTree) Resolve(name string, follow bool) (string, error) {
	return ResolveIn(t.Lstat, name, follow)
}

// Hidden tells whether name is a file that the patterns hide.
func (t *ignoringTree) Hidden(name string) bool {
	e, err := t.tree.Lstat(name)
	return err == nil && t.see("lstat", name, e) != nil
}
