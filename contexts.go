package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
)

// openFar opens a main context that is no directory: a stream or a URL. It may be a build file without a context. As in
// BuildKit, no ignore file applies to it.
func (h *Home) openFar(ctx context.Context, src *source, o BuildOptions) error {
	c, err := h.openContext(ctx, src, o)
	if err != nil {
		return err
	}
	src.trees[""] = c.Tree
	switch {
	case c.Dockerfile != nil:
		src.fileName, src.file = o.Context, c.Dockerfile
	case o.File == "-":
		src.fileName = "-"
		src.file, err = readLimited(o.Stdin, "standard input")
	default:
		src.fileName, src.file, err = buildFileIn(c.Tree, o.File)
	}
	return err
}

// openContext opens what is named by "-", a repository's address or a URL.
func (h *Home) openContext(ctx context.Context, src *source, o BuildOptions) (*executor.Context, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	opener := executor.ContextOpener{Snapshots: store, Layout: h.Layout}
	if keep, err := strconv.ParseBool(o.Args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]); err == nil { // as BuildKit has it
		opener.KeepGitDir = keep
	}
	c, err := opener.Open(ctx, o.Context, o.Stdin)
	if err != nil {
		return nil, err
	}
	src.closers = append(src.closers, c.Close)
	return c, nil
}

// isFarFile tells whether a build file is not of this machine.
func isFarFile(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// fetchBuildFile gets a build file for a context of this machine.
func (h *Home) fetchBuildFile(ctx context.Context, src *source, address string) ([]byte, error) {
	c, err := h.openContext(ctx, src, BuildOptions{Context: address})
	if err == nil && c.Dockerfile == nil {
		err = fmt.Errorf("%s: is no build file", address)
	}
	if err != nil {
		return nil, err
	}
	return c.Dockerfile, nil
}

// buildFileIn finds the build file in a tree.
func buildFileIn(t snapshot.Tree, file string) (name string, text []byte, err error) {
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

func parseIgnore(name string, text []byte) ([]string, error) {
	patterns, err := parser.ParseIgnore(text)
	if e, ok := errors.AsType[*parser.Error](err); ok {
		e.Span.File = name
	}
	return patterns, err
}

// openNamed opens a context that was given a name (--build-context). A directory obeys the .dockerignore in its root.
func (h *Home) openNamed(ctx context.Context, src *source, name, spec string) error {
	for _, prefix := range []string{"docker-image://", "oci-layout://"} {
		if strings.HasPrefix(spec, prefix) {
			src.named[name] = planner.Context{Image: spec}
			return nil
		}
	}
	if stage, ok := strings.CutPrefix(spec, "target:"); ok {
		src.named[name] = planner.Context{Stage: stage}
		return nil
	}
	src.named[name] = planner.Context{Tree: true}
	if !executor.IsRemoteContext(spec) {
		ignore, err := ignoreBeside(spec, path.Join(spec, ".dockerignore"))
		if err != nil {
			return err
		}
		return h.openTree(src, name, spec, ignore)
	}
	c, err := h.openContext(ctx, src, BuildOptions{Context: spec})
	if err != nil {
		return err
	}
	src.trees[name] = c.Tree
	return nil
}
