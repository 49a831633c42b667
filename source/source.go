// Package source opens what a build reads: a directory with its stat index, a git repository, a URL, standard input, named
// contexts, the ignore file and the build file.
//
// [Open] turns what the caller names into one value. The rest of forge sees trees of files with digests ([filetree.Tree])
// and does not know where they come from. What it reads is not trusted: a directory is read by descriptor beneath its
// root, git runs without the configuration of the repository or of the user, an archive is read within limits.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Spec names what a build reads, in the words of the command line. The zero value of all but Context and Store works.
type Spec struct {
	Context    string            // a directory, "-" (a tar or a build file on Stdin), a repository, or a URL of a tar or build file
	File       string            // build file; "" is Dockerfile in the context, "-" is Stdin
	Stdin      io.Reader         // for "-"
	Named      map[string]string // contexts by name: as Context, or docker-image://, oci-layout:// or target:STAGE
	KeepGitDir bool              // keep .git of repositories whose address does not say
	Offline    bool              // servers and repositories are not asked
	Shared     *Shared           // directories that other sources of the build have opened; nil has others open their own
	Store      Store
	Lender     Lender // of contexts and build files whose names begin with LentPrefix; may be nil
}

// A Store is where contexts that are not directories of this machine are kept while a build reads them.
type Store struct {
	Layout    *image.Layout
	Snapshots func() (*snapshot.Store, error) // called only for a context that is a tar
	Stats     func(dir string) string         // file that remembers the digests of a directory's files; nil remembers nothing
}

// A Source is all that a build reads, but for base images. Close it after the last step that reads from it.
type Source struct {
	Name   string                     // of the build file, for people
	Text   []byte                     // of the build file
	Ignore []string                   // patterns that hide files of the main context
	Trees  map[string]filetree.Tree   // contexts by name; "" is the main one. Of a build with several sources, see Shared.Name
	Named  map[string]planner.Context // what the names of contexts stand for
	Commit *Commit                    // that the main context is; nil if it is no repository
	Remote map[string]*Commit         // the contexts with names that are repositories or URLs; nil for a URL

	spec    Spec
	dirs    map[string]string                         // contexts that are directories of this machine, by name: where they are
	ignored string                                    // the ignore file of the main context; "" if there is none
	local   string                                    // the build file, if it is a file of this machine
	made    func(context.Context) (*time.Time, error) // when the main context was; nil for a directory
	closers closers.Stack
}

// BuildFile is the path of the build file, "" if it is no file of this machine.
func (s *Source) BuildFile() string { return s.local }

// IgnoreFile is the path of the main context's ignore file, "" if it has none or is no directory of this machine.
func (s *Source) IgnoreFile() string { return s.ignored }

// Dirs are the contexts that are directories of this machine: their absolute paths by name.
func (s *Source) Dirs() map[string]string { return s.dirs }

// Time is when the main context was made, as BuildKit has it: when a repository's commit was committed, when a server says
// that a URL's content was last modified, else the time of the newest file of a tar. It is nil if there is none of that, as
// for a directory: the times of its files say nothing that lasts.
func (s *Source) Time(ctx context.Context) (*time.Time, error) {
	if s.made == nil {
		return nil, nil
	}
	return s.made(ctx)
}

// Open opens what spec names. Errors say which context or file they are about.
func Open(ctx context.Context, spec Spec) (_ *Source, err error) {
	if spec.Context == "-" && spec.File == "-" {
		return nil, errors.New("the context and the build file cannot both be standard input")
	}
	if spec.Stdin != nil {
		spec.Stdin = durable.Patient(ctx, spec.Stdin)
	}
	s := &Source{spec: spec, Trees: map[string]filetree.Tree{}, Named: map[string]planner.Context{}, dirs: map[string]string{}, Remote: map[string]*Commit{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	switch {
	case strings.HasPrefix(spec.Context, LentPrefix):
		err = s.openLent(ctx)
	case spec.Context == "-" || IsRemote(spec.Context):
		err = s.openRemote(ctx)
	default:
		err = s.openDirectory(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Named)) {
		if err := s.openNamed(ctx, name, spec.Named[name]); err != nil {
			return nil, fmt.Errorf("build context %s: %w", name, err)
		}
	}
	return s, nil
}

// Close gives back what Open opened.
func (s *Source) Close() error { return s.closers.Close() }

// openNamed opens a context that was given a name (--build-context). A directory obeys the .dockerignore in its root.
func (s *Source) openNamed(ctx context.Context, name, spec string) error {
	for _, prefix := range []string{"docker-image://", "oci-layout://"} {
		if strings.HasPrefix(spec, prefix) {
			s.Named[name] = planner.Context{Image: spec}
			return nil
		}
	}
	if stage, ok := strings.CutPrefix(spec, "target:"); ok {
		s.Named[name] = planner.Context{Stage: stage}
		return nil
	}
	s.Named[name] = planner.Context{Tree: true}
	if dir, ok := strings.CutPrefix(spec, LentPrefix); ok {
		ignore, err := s.lentIgnore(ctx, dir, nil)
		if err != nil {
			return err
		}
		return s.openLentTree(ctx, name, dir, ignore)
	}
	if !IsRemote(spec) {
		ignore, err := readIgnore(ctx, spec, "")
		if err != nil {
			return err
		}
		return s.openTree(ctx, name, spec, ignore)
	}
	c, err := s.remote(ctx, spec)
	if err != nil {
		return err
	}
	s.Trees[name], s.Remote[name] = c.tree, c.commit
	return nil
}
