package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/snapshot/filetree"
)

// maxBuildFile is how large a build file or an ignore file may be, in bytes. A reader of build files takes seventy times as
// much memory as the worst of them is long.
const maxBuildFile = 4 << 20

// openDirectory opens a directory of this machine as the main context. The build file may lie outside of it; the ignore
// file beside the build file wins over the context's.
func (s *Source) openDirectory(ctx context.Context) error {
	dir := s.spec.Context
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("context %s: is not a directory", dir)
	}
	file, err := FindBuildFile(dir, s.spec.File)
	if err != nil {
		return err
	}
	s.Name = web.Redact(file)
	local := file
	switch {
	case file == "-":
		local = ""
		s.Text, err = readLimited(s.spec.Stdin, "standard input")
	case IsURL(file):
		local = ""
		s.Text, err = s.fetchBuildFile(ctx, file)
	default:
		s.Text, err = readBuildFile(ctx, dir, file)
	}
	if err != nil {
		return fmt.Errorf("build file: %w", err)
	}
	s.local = local
	if s.ignored, _, err = findIgnore(ctx, dir, local); err != nil {
		return err
	}
	if s.Ignore, err = readIgnore(ctx, dir, local); err != nil {
		return err
	}
	return s.openTree(ctx, "", dir, s.Ignore)
}

// openTree opens a directory as the context called name.
func (s *Source) openTree(ctx context.Context, name, dir string, ignore []string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	index := ""
	if s.spec.Store.Stats != nil {
		index = s.spec.Store.Stats(abs)
	}
	tree, shared, err := s.spec.Shared.open(ctx, abs, ignore, index)
	if err != nil {
		return fmt.Errorf("context %s: %w", dir, err)
	}
	s.Trees[name], s.dirs[name] = tree, abs
	if !shared {
		s.closers.Push(tree.Close)
	}
	return nil
}

// readIgnore reads the patterns of a directory's ignore file.
func readIgnore(ctx context.Context, dir, buildFile string) ([]string, error) {
	name, text, err := findIgnore(ctx, dir, buildFile)
	if err != nil || name == "" {
		return nil, err
	}
	patterns, err := parser.ParseIgnore(text)
	if e, ok := errors.AsType[*parser.Error](err); ok {
		e.Span.File = name
	}
	return patterns, err
}

// findIgnore finds the ignore file of a directory: the one beside the build file, if there is one, else its .dockerignore.
// buildFile is "" where the build file is not a file of this machine; the name is "" where there is no ignore file.
func findIgnore(ctx context.Context, dir, buildFile string) (name string, text []byte, err error) {
	names := []string{filepath.Join(dir, ".dockerignore")}
	if buildFile != "" {
		names = append([]string{buildFile + ".dockerignore"}, names...)
	}
	for _, name := range names {
		text, err := readBuildFile(ctx, dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return name, text, err
	}
	return "", nil, nil
}

// FindBuildFile is where the build file of a directory is: as file says, seen from here or from the directory; else
// Dockerfile in the directory, or dockerfile where that is missing. "-" and URLs are returned as they are.
func FindBuildFile(dir, file string) (string, error) {
	switch {
	case file == "-", IsURL(file):
		return file, nil
	case file != "":
		if exists(file) || filepath.IsAbs(file) {
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

// findInTree finds the build file in a tree and reads it.
func findInTree(t filetree.Tree, file string) (name string, text []byte, err error) {
	names := []string{"Dockerfile", "dockerfile"}
	if file != "" {
		names = []string{file}
	}
	for _, name := range names {
		text, err := readInTree(t, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, text, err
		}
	}
	return "", nil, fmt.Errorf("the context has no %s: name the build file with -f FILE", names[0])
}

// readInTree reads a file of a context that is a tree.
func readInTree(t filetree.Tree, name string) ([]byte, error) {
	resolved, err := filetree.Resolve(t.Lstat, inTree(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	e, err := t.Lstat(resolved)
	if err == nil && e.Size > maxBuildFile { // a file of a client comes whole when it is opened
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxBuildFile)
	}
	f, err := t.Open(resolved)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	text, err := readLimited(f, name)
	return text, errors.Join(err, f.Close())
}

// readBuildFile reads a build file or an ignore file. One in the context is whatever the context's maker says: a link may
// lead to a secret that the message about its first line would show, and a FIFO would have us wait. It is read as all of
// the context is: beneath the root, and only if it is a regular file. Elsewhere the caller knows: it may be /dev/fd/63.
func readBuildFile(ctx context.Context, dir, name string) ([]byte, error) {
	rel, inside := within(dir, name)
	if !inside {
		return durable.ReadInput(ctx, name, maxBuildFile)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // read only
	info, err := root.Stat(rel)
	link, linkErr := root.Lstat(rel)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist) && linkErr == nil && link.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%s: a link that leads out of the context is not followed: put a copy of the file there, or name it with -f FILE", name)
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a directory", name)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: is not a regular file", name)
	}
	f, err := root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO that has come since is not waited for
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s: is not a regular file", name))
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

// IsURL reports whether a context, build file or archive is fetched by HTTP.
func IsURL(spec string) bool {
	return strings.HasPrefix(spec, "http://") || strings.HasPrefix(spec, "https://")
}
