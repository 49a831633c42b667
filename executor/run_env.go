package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what a RUN finds in its environment: what the build file says, and no more of the builder's than
// proxies that the caller has given.
func environment(op *planner.Run, home string) []string {
	env := slices.Clone(op.Env)
	defaults := append([]string{"PATH=" + defaultPath, "HOME=" + home}, op.Proxy...)
	for _, kv := range defaults {
		name, _, _ := strings.Cut(kv, "=")
		if !hasEnv(env, name) {
			env = append(env, kv)
		}
	}
	return env
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return isEnv(kv, name) })
}

func isEnv(kv, name string) bool {
	return len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name
}

// setEnv sets a variable, in its place if it has one.
func setEnv(env []string, name, value string) []string {
	kv := name + "=" + value
	if i := slices.IndexFunc(env, func(kv string) bool { return isEnv(kv, name) }); i >= 0 {
		env[i] = kv
		return env
	}
	return append(env, kv)
}

// user looks up USER in the files of layers.
func (w *Local) user(ctx context.Context, layers []image.Layer, user string) (runtime.User, error) {
	view, err := w.view(ctx, layers)
	if err != nil {
		return runtime.User{}, err
	}
	return LookupUser(view, user)
}

// LookupUser looks up USER in the files of a tree, without mounting it and without running anything of it.
func LookupUser(view snapshot.Tree, user string) (runtime.User, error) {
	var files [2]io.Reader
	for i, name := range []string{"etc/passwd", "etc/group"} {
		f, err := openUserFile(view, name)
		if err != nil {
			return runtime.User{}, fmt.Errorf("/%s: %w", name, err)
		}
		if f != nil {
			defer f.Close()
			files[i] = f
		}
	}
	u, err := runtime.LookupUser(user, files[0], files[1])
	// A process of the oracle's has its group among its supplementary ones, too.
	if err == nil && !slices.Contains(u.Groups, u.GID) {
		u.Groups = slices.Insert(u.Groups, 0, u.GID)
	}
	return u, err
}

// openUserFile opens a regular file of at most maxUserFile bytes, or returns nil if there is none.
func openUserFile(t snapshot.Tree, name string) (io.ReadCloser, error) {
	name, err := filetree.Resolve(t.Lstat, name, true)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := t.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case e.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return nil, errors.New("is not a regular file")
	case e.Size > maxUserFile:
		return nil, fmt.Errorf("has %d bytes and may have %d", e.Size, maxUserFile)
	}
	return t.Open(name)
}
