package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Layers mounts a file or directory of a file system of layers, which are here. What is written to it is forgotten.
type Layers struct {
	Layers   []image.Layer
	Files    filetree.Tree // the same files; not closed
	Source   string        // path in Files
	Target   string        // absolute
	ReadOnly bool
}

func (m *Layers) kind() string   { return "bind" }
func (m *Layers) target() string { return path.Clean(m.Target) }

func (m *Layers) mount(ctx context.Context, c *Container) error {
	resolved, err := filetree.Resolve(m.Files.Lstat, m.Source)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	e, err := m.Files.Lstat(resolved)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	if kind := e.Mode & syscall.S_IFMT; kind != syscall.S_IFDIR && kind != syscall.S_IFREG {
		return fmt.Errorf("source %s is neither a file nor a directory", m.Source)
	}
	top, inside, err := m.open(ctx, c, resolved)
	if err != nil {
		return err
	}
	from, err := c.openBelow(top, resolved)
	if err != nil {
		return fmt.Errorf("source %s: %w", m.Source, err)
	}
	return c.attach(m.target(), runtime.Mount{Source: from, ReadOnly: m.ReadOnly}, inside)
}

// open mounts the layers, and returns how mount points are made below source.
func (m *Layers) open(ctx context.Context, c *Container, source string) (*os.File, makeTarget, error) {
	if m.ReadOnly && c.spec.Isolation != runtime.ByChroot { // which moves what it shows
		top, err := c.factory.Snapshots.Mount(ctx, m.Layers)
		if err != nil {
			return nil, nil, err
		}
		c.open.Push(top.Close)
		return top, func(rel string, _ os.FileMode) error {
			if _, err := m.Files.Lstat(path.Join(source, rel)); err != nil {
				return fmt.Errorf("it is in the read-only mount of %s: %w", m.Target, err)
			}
			return nil
		}, nil
	}
	top, below, err := c.mountDraft(ctx, m.Layers, snapshot.DraftOptions{})
	if err != nil {
		return nil, nil, err
	}
	return top, below(source), nil
}

// openBelow opens name in what is mounted at top. Links in it lead nowhere else, and a pipe is not waited for.
func (c *Container) openBelow(top *os.File, name string) (*os.File, error) {
	if name == "." {
		return top, nil
	}
	root, err := openRoot(top)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	c.open.Push(f.Close)
	return f, nil
}

// Scripts mounts a directory of executable files: the heredocs of a build file that are programs.
type Scripts struct {
	Target string // absolute
	Files  []Script
}

// A Script is one file of Scripts.
type Script struct {
	Name    string // base name
	Content string
}

func (m *Scripts) kind() string   { return "script" }
func (m *Scripts) target() string { return path.Clean(m.Target) }

func (m *Scripts) mount(ctx context.Context, c *Container) error {
	dir, _, err := c.mountDraft(ctx, nil, snapshot.DraftOptions{})
	if err != nil {
		return err
	}
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range m.Files {
		if err := writeScript(root, f); err != nil {
			return fmt.Errorf("heredoc %s: %w", f.Name, err)
		}
	}
	return c.attach(m.target(), runtime.Mount{Source: dir, ReadOnly: true}, nil)
}

func writeScript(root *os.Root, f Script) error {
	w, err := root.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, f.Content)
	// The mode given to open is cut by the umask.
	return errors.Join(err, w.Chmod(0o755), w.Close())
}
