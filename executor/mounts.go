package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A place is something mounted below which other mounts may ask for mount points.
type place struct {
	target string
	make   func(rel string, dir bool) error
}

// within tells whether name is dir or below it.
func within(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// point makes sure that something can be mounted at target and returns where that is, links resolved. Nothing of it
// stays in the layer.
func (c *command) point(target string, dir bool) (string, error) {
	for _, p := range slices.Backward(c.places) {
		if !within(target, p.target) {
			continue
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(target, p.target), "/")
		if rel == "" || p.make == nil {
			return target, nil
		}
		return target, p.make(rel, dir)
	}
	return c.draft.Mountpoint(target, dir, false)
}

// mount adds a mount at target. m.Target is filled in.
func (c *command) mount(target string, dir bool, m runtime.Mount, points func(rel string, dir bool) error) error {
	at, err := c.point(target, dir)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", target, err)
	}
	m.Target = at
	c.mounts = append(c.mounts, m)
	c.places = append(c.places, place{target: target, make: points})
	if at != target { // through links
		c.places = append(c.places, place{target: at, make: points})
	}
	return nil
}

// mountDefaults makes the mount points of what every container has, and gives it the files that tell it of the network.
func (c *command) mountDefaults(ctx context.Context) error {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		// On an empty file system they stay in the layer: the oracle's images have them.
		if _, err := c.draft.Mountpoint(dir, true, true); err != nil {
			return fmt.Errorf("mount point %s: %w", dir, err)
		}
		c.places = append(c.places, place{target: dir})
	}
	resolv, err := ResolvConf(c.network)
	if err != nil {
		return err
	}
	hosts, err := HostsFile(cmp.Or(c.op.Hostname, hostname), c.op.Limits.Hosts)
	if err != nil {
		return err
	}
	for _, file := range []struct{ target, text string }{{"/etc/resolv.conf", resolv}, {"/etc/hosts", hosts}} {
		f, err := c.local.etc.file(c.local.Layout.Staging(), file.text)
		if err != nil {
			return fmt.Errorf("%s: %w", file.target, err)
		}
		// Read-only, as other steps have the same file.
		if err := c.mount(file.target, false, runtime.Mount{Source: f, ReadOnly: true, NoExec: true}, nil); err != nil {
			return err
		}
	}
	return nil
}

// mountScripts puts heredocs that are programs of their own where the command line says that they are.
func (c *command) mountScripts(ctx context.Context) error {
	if len(c.op.Files) == 0 {
		return nil
	}
	scripts, err := c.local.Snapshots.Draft(ctx, nil, snapshot.DraftOptions{})
	if err != nil {
		return err
	}
	c.closing(scripts.Close)
	dir, err := scripts.Mount(ctx)
	if err != nil {
		return err
	}
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range c.op.Files {
		if err := writeScript(root, f); err != nil {
			return fmt.Errorf("heredoc %s: %w", f.Name, err)
		}
	}
	return c.mount(planner.ScriptDir, true, runtime.Mount{Source: dir, ReadOnly: true}, nil)
}

func writeScript(root *os.Root, f planner.File) error {
	w, err := root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, f.Content)
	// The mode given to open is cut by the umask.
	return errors.Join(err, w.Chmod(0o755), w.Close())
}

// openRoot opens a directory, which may be a detached mount, for access that stays within it.
func openRoot(dir *os.File) (*os.Root, error) {
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
}

// mountRequested adds what RUN --mount asks for, outer ones first, so that inner ones are not covered by them.
func (c *command) mountRequested(ctx context.Context) error {
	order := make([]int, len(c.op.Mounts))
	for i := range order {
		order[i] = i
	}
	depth := func(i int) int { return strings.Count(path.Clean(c.op.Mounts[i].Target), "/") }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(depth(a), depth(b)) })

	caches, err := c.lockCaches(ctx)
	if err != nil {
		return err
	}
	for _, i := range order {
		m := c.op.Mounts[i]
		switch m.Type {
		case planner.Bind:
			err = c.mountBind(ctx, m)
		case planner.Cache:
			err = c.mountCache(ctx, m, caches[m.ID])
		case planner.Tmpfs:
			err = c.mountTmpfs(ctx, m)
		case planner.Secret:
			err = c.mountSecret(m)
		case planner.SSH:
			err = c.mountSSH(m)
		default:
			err = errors.New("there is no such type of mount")
		}
		if err != nil {
			return fmt.Errorf("--mount=type=%s,target=%s: %w", m.Type, m.Target, err)
		}
	}
	return nil
}

// mountTmpfs mounts an empty file system in memory. One with other mounts in it has to have their mount points, and is a
// draft in memory.
func (c *command) mountTmpfs(ctx context.Context, m planner.Mount) error {
	outer := slices.ContainsFunc(c.op.Mounts, func(o planner.Mount) bool {
		return o.Target != m.Target && within(o.Target, m.Target)
	})
	if !outer {
		return c.mount(m.Target, true, runtime.Mount{Size: m.Size}, nil)
	}
	draft, err := c.local.Snapshots.Draft(ctx, nil, snapshot.DraftOptions{Memory: cmp.Or(m.Size, 1<<40)})
	if err != nil {
		return err
	}
	c.closing(draft.Close)
	dir, err := draft.Mount(ctx)
	if err != nil {
		return err
	}
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(root.Chmod(".", os.ModeSticky|0o777), root.Close()); err != nil {
		return err
	}
	return c.mount(m.Target, true, runtime.Mount{Source: dir}, func(rel string, dir bool) error {
		_, err := draft.Mountpoint("/"+rel, dir, false)
		return err
	})
}

// mountBind shows files of another step or of a build context. What is written to them is forgotten.
func (c *command) mountBind(ctx context.Context, m planner.Mount) error {
	layers, source, err := c.bindLayers(ctx, m)
	if err != nil {
		return err
	}
	view, err := c.local.view(ctx, layers)
	if err != nil {
		return err
	}
	resolved, err := filetree.Resolve(view.Lstat, source, true)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	e, err := view.Lstat(resolved)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	if !isDir(&e) && !isRegular(&e) {
		return fmt.Errorf("source %s is neither a file nor a directory", m.Source)
	}

	var top *os.File
	points := func(rel string, dir bool) error {
		if _, err := view.Lstat(path.Join(resolved, rel)); err != nil {
			return fmt.Errorf("it is in the read-only mount of %s: %w", m.Target, err)
		}
		return nil
	}
	if m.ReadOnly {
		if top, err = c.local.Snapshots.Mount(ctx, layers); err != nil {
			return err
		}
		c.closing(top.Close)
	} else {
		draft, err := c.local.Snapshots.Draft(ctx, layers, snapshot.DraftOptions{})
		if err != nil {
			return err
		}
		c.closing(draft.Close)
		if top, err = draft.Mount(ctx); err != nil {
			return err
		}
		points = func(rel string, dir bool) error {
			_, err := draft.Mountpoint("/"+path.Join(resolved, rel), dir, false)
			return err
		}
	}
	from, err := c.openBelow(top, resolved)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	return c.mount(m.Target, isDir(&e), runtime.Mount{Source: from, ReadOnly: m.ReadOnly}, points)
}

// openBelow opens name, in which there are no links, in what is mounted at top.
func (c *command) openBelow(top *os.File, name string) (*os.File, error) {
	if name == "." {
		return top, nil
	}
	root, err := openRoot(top)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	c.closing(f.Close)
	return f, nil
}

// bindLayers are layers that hold the files of a bind mount, and their path in them.
func (c *command) bindLayers(ctx context.Context, m planner.Mount) ([]image.Layer, string, error) {
	if m.From.Read >= 0 {
		layers := c.job.Reads[m.From.Read]
		return layers, relative(m.Source), nil
	}
	tree, err := c.local.tree(ctx, c.job, *m.From)
	if err != nil {
		return nil, "", err
	}
	name, err := filetree.Resolve(tree.Lstat, relative(m.Source), true)
	if err != nil {
		return nil, "", fmt.Errorf("source %s: %w", m.Source, err)
	}
	layer, err := c.local.layerOf(ctx, tree, name)
	if err != nil {
		return nil, "", err
	}
	return []image.Layer{layer}, layerOfName, nil
}

// relative is a path as a [snapshot.Tree] wants it.
func relative(p string) string { return cmp.Or(strings.TrimPrefix(path.Clean("/"+p), "/"), ".") }
