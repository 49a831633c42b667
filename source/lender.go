package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/snapshot/filetree"
)

// LentPrefix begins the name of a context, or of a build file, in a directory of a [Lender]: client://DIR, client://DIR/FILE.
const LentPrefix = "client://"

// A Lender lends files of directories that are not on this machine: those of a client that has asked for a build over a connection.
type Lender interface {
	// Lend lists what a filter leaves of a directory that the client knows under a name.
	Lend(ctx context.Context, dir string, f Filter) (Loan, error)

	// Key names a directory among those of all clients, the same for each build of it; "" if that is not known.
	Key(dir string) string
}

// A Filter says which files of a directory are lent: with Only, these and what they link to; without those of the ignore patterns.
type Filter struct{ Only, Ignore []string }

// A Loan is the files of one directory. Close it when nothing more will be fetched.
type Loan interface {
	// Next describes the next file: a directory before what is in it. At the end it returns io.EOF. A regular file with a Link is
	// another name of that file, which came before.
	Next() (name string, e filetree.Entry, err error)

	// Fetch writes the content of the n'th file that Next has described, from 0, to w. It may be called once for each, after the end
	// of the list, by several goroutines.
	Fetch(ctx context.Context, n int, w io.Writer) error

	Close() error
}

// openLent opens a directory of the lender as the main context, and the build file that goes with it.
func (s *Source) openLent(ctx context.Context) error {
	dir := strings.TrimPrefix(s.spec.Context, LentPrefix)
	own, err := s.lentBuildFile(ctx)
	if err != nil {
		return err
	}
	if s.Ignore, err = s.lentIgnore(ctx, dir, own); err != nil {
		return err
	}
	return s.openLentTree(ctx, "", dir, s.Ignore)
}

// lentBuildFile reads the build file, which may be in another directory than the context. It returns the ignore file that belongs to it, nil if there is none.
func (s *Source) lentBuildFile(ctx context.Context) (ignore []byte, err error) {
	dir, file, _ := strings.Cut(strings.TrimPrefix(s.spec.File, LentPrefix), "/")
	names := []string{file}
	if file == "Dockerfile" {
		names = append(names, "dockerfile")
	}
	found, err := s.lentFiles(ctx, dir, append(names, file+".dockerignore"))
	if err != nil {
		return nil, fmt.Errorf("build file: %w", err)
	}
	for _, name := range names {
		if text, ok := found[name]; ok {
			s.Name, s.Text = name, text
			return found[file+".dockerignore"], nil
		}
	}
	return nil, fmt.Errorf("build file: failed to read dockerfile: open %s: no such file or directory", file)
}

// lentIgnore are the patterns of a directory: those of the build file's own ignore file, or else of the directory's.
func (s *Source) lentIgnore(ctx context.Context, dir string, own []byte) ([]string, error) {
	if own == nil {
		found, err := s.lentFiles(ctx, dir, []string{".dockerignore"})
		if err != nil {
			return nil, fmt.Errorf("context: %w", err)
		}
		own = found[".dockerignore"]
	}
	patterns, err := parser.ParseIgnore(own)
	if err == nil {
		err = checkPatterns(patterns)
	}
	return patterns, err
}

// lentFiles reads small files of a directory of the lender. Those that are not there are left out.
func (s *Source) lentFiles(ctx context.Context, dir string, names []string) (found map[string][]byte, err error) {
	t, err := s.lend(ctx, dir, Filter{Only: names}, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	found = map[string][]byte{}
	for _, name := range names {
		text, err := readInTree(t, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = text
	}
	return found, nil
}

// openLentTree opens a directory of the lender as the context of a name.
func (s *Source) openLentTree(ctx context.Context, name, dir string, ignore []string) error {
	index := ""
	if key := s.spec.Lender.Key(dir); key != "" && s.spec.Store.Stats != nil {
		index = s.spec.Store.Stats(LentPrefix + key + "/" + dir)
	}
	t, err := s.lend(ctx, dir, Filter{Ignore: ignore}, index)
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	s.Trees[name] = t
	s.closers.Push(t.Close)
	return nil
}

// lend opens files of a directory of the lender as a tree. Digests are remembered in index; "" remembers none.
func (s *Source) lend(ctx context.Context, dir string, f Filter, index string) (_ *lentTree, err error) {
	if s.spec.Lender == nil {
		return nil, fmt.Errorf("%s%s: nobody has asked for this build over a connection", LentPrefix, dir)
	}
	loan, err := s.spec.Lender.Lend(ctx, dir, f)
	if err != nil {
		return nil, err
	}
	t := newLentTree(ctx, loan, s.spec.Store.Layout, index)
	for n := 0; err == nil; n++ {
		var name string
		var e filetree.Entry
		if name, e, err = loan.Next(); err == nil {
			err = t.add(n, name, e)
		}
	}
	if err != io.EOF {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// checkLentName refuses a path that is not one of a file beneath the root, written in the shortest way.
func checkLentName(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("the client lends a file with %w", err)
	}
	if name == "." || !filepath.IsLocal(name) || path.Clean(name) != name {
		return fmt.Errorf("the client lends a file with the name %q", name)
	}
	return nil
}
