package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// maxBuildFile bounds build and ignore files, in bytes. A reader of build files takes seventy times as much memory as the
// worst of them is long.
const maxBuildFile = 4 << 20

// A source is all that a build reads: the build file, the contexts, and what answers FROM.
type source struct {
	fileName string // for people
	file     []byte
	ignore   []string                   // patterns that hide files of the main context
	trees    map[string]snapshot.Tree   // contexts by name; "" is the main one
	named    map[string]planner.Context // what the names stand for
	resolver *resolver
	closers  []func() error
}

// Close gives back what openSource opened.
func (s *source) Close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// withSource opens the source of a build for do.
func (h *Home) withSource(ctx context.Context, o BuildOptions, do func(*source) error) (err error) {
	src, err := h.openSource(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return do(src)
}

// openSource finds the build file and opens the contexts.
func (h *Home) openSource(ctx context.Context, o BuildOptions) (_ *source, err error) {
	src := &source{
		trees: map[string]snapshot.Tree{}, named: map[string]planner.Context{},
		resolver: &resolver{home: h, pull: o.Pull, remote: o.RemoteOptions},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, src.Close())
		}
	}()
	switch {
	case o.Context == "-" && o.File == "-":
		return nil, errors.New("the context and the build file cannot both be standard input")
	case o.Context == "-" || executor.IsRemoteContext(o.Context):
		err = h.openFar(ctx, src, o)
	default:
		err = h.openDirectory(ctx, src, o)
	}
	if err != nil {
		return nil, err
	}
	for name, spec := range o.Contexts {
		if err := h.openNamed(ctx, src, name, spec); err != nil {
			return nil, fmt.Errorf("build context %s: %w", name, err)
		}
	}
	return src, nil
}

// openDirectory opens a directory of this machine as the main context. The build file may lie outside of it; the ignore
// file beside the build file wins over the context's.
func (h *Home) openDirectory(ctx context.Context, src *source, o BuildOptions) error {
	info, err := os.Stat(o.Context)
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("context %s: is not a directory", o.Context)
	}
	file, err := buildFilePath(o.Context, o.File)
	if err != nil {
		return err
	}
	switch {
	case file == "-":
		src.fileName = "-"
		src.file, err = readLimited(o.Stdin, "standard input")
	case isFarFile(file):
		src.fileName = file
		src.file, err = h.fetchBuildFile(ctx, src, file)
	default:
		src.fileName = file
		src.file, err = readBuildFile(o.Context, file)
	}
	if err != nil {
		return fmt.Errorf("build file: %w", err)
	}
	ignoreFiles := []string{filepath.Join(o.Context, ".dockerignore")}
	if file != "-" && !isFarFile(file) {
		ignoreFiles = append([]string{file + ".dockerignore"}, ignoreFiles...)
	}
	if src.ignore, err = ignoreBeside(o.Context, ignoreFiles...); err != nil {
		return err
	}
	return h.openTree(src, "", o.Context, src.ignore)
}

// ignoreBeside reads the first of some ignore files that exists; dir is the context's.
func ignoreBeside(dir string, names ...string) ([]string, error) {
	for _, name := range names {
		text, err := readBuildFile(dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return parseIgnore(name, text)
	}
	return nil, nil
}

// openTree opens a directory as the context called name.
func (h *Home) openTree(src *source, name, dir string, ignore []string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	tree, err := snapshot.OpenDir(abs, ignore, h.contextIndex(abs))
	if err != nil {
		return fmt.Errorf("context %s: %w", dir, err)
	}
	src.trees[name] = tree
	src.closers = append(src.closers, tree.Close)
	return nil
}

// buildFilePath is where the build file is: as -f says, seen from here or from the context; else Dockerfile in the
// context, or dockerfile where that is missing.
func buildFilePath(dir, file string) (string, error) {
	switch {
	case file == "-", isFarFile(file):
		return file, nil
	case file != "":
		if _, err := os.Stat(file); err == nil || filepath.IsAbs(file) {
			return file, nil
		}
		if inside := filepath.Join(dir, file); exists(inside) {
			return inside, nil
		}
		return "", fmt.Errorf("build file %s: %w", file, fs.ErrNotExist)
	}
	for _, name := range []string{"Dockerfile", "dockerfile"} {
		if p := filepath.Join(dir, name); exists(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: no Dockerfile there: name it with -f FILE", dir)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// readBuildFile reads a build file or an ignore file. One in the context is whatever the context's maker says: a link may
// lead to a secret that the message about its first line would show, and a FIFO have us wait. It is read as all of the
// context, inside and only if it is a file. Elsewhere, the caller knows: it may be /dev/fd/63.
func readBuildFile(dir, name string) ([]byte, error) {
	open := func() (*os.File, error) { return os.Open(name) }
	rel, inside := within(dir, name)
	if inside {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		defer root.Close() //nolint:errcheck // read only
		if info, err := root.Stat(rel); err != nil {
			return nil, err
		} else if !info.Mode().IsRegular() && !info.IsDir() {
			return nil, fmt.Errorf("%s: is not a regular file", name)
		}
		open = func() (*os.File, error) { return root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0) }
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a directory", name)
	case inside && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is not a regular file", name)
	}
	return readLimited(f, name)
}

// within is where name is in the directory dir, by its words or, where links lead there, in truth.
func within(dir, name string) (string, bool) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		name, err = filepath.Abs(name)
	}
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(dir, name)
	if err == nil && filepath.IsLocal(rel) {
		return rel, true
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return "", false
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(name))
	if err != nil {
		return "", false
	}
	rel, err = filepath.Rel(dir, filepath.Join(parent, filepath.Base(name)))
	return rel, err == nil && filepath.IsLocal(rel)
}

func readLimited(r io.Reader, name string) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBuildFile+1))
	if err == nil && len(text) > maxBuildFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxBuildFile)
	}
	return text, err
}

// readInTree reads a file of a context that is a tree.
func readInTree(t snapshot.Tree, name string) ([]byte, error) {
	resolved, err := filetree.Resolve(t.Lstat, path.Clean("/" + name)[1:], true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f, err := t.Open(resolved)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	text, err := readLimited(f, name)
	return text, errors.Join(err, f.Close())
}

// contextIndex is the file that remembers the digests of a directory's files.
func (h *Home) contextIndex(abs string) string {
	return filepath.Join(h.Dir, "contexts", hexOf(abs))
}
