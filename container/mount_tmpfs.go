package container

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// A Tmpfs mounts an empty file system in memory.
type Tmpfs struct {
	Target   string // absolute
	ReadOnly bool
	NoExec   bool
	Setuid   bool // honour setuid and setgid bits
	Devices  bool // honour device nodes
	Lasting  bool // what one process of the Container writes is there for the next
	Options  runtime.Tmpfs
}

func (m *Tmpfs) kind() string   { return "tmpfs" }
func (m *Tmpfs) target() string { return path.Clean(m.Target) }

// mount mounts the file system. One with other mounts in it has to have their mount points, and one that lasts is not the process's:
// they are drafts in memory.
func (m *Tmpfs) mount(ctx context.Context, c *Container) error {
	outer := m.Lasting || slices.ContainsFunc(c.options.Mounts, func(o Mount) bool {
		return o.target() != m.target() && within(o.target(), m.target())
	}) || c.options.Etc == EtcOfRun && within("/etc", m.target())
	if !outer {
		return c.attach(m.target(), runtime.Mount{
			ReadOnly: m.ReadOnly, NoExec: m.NoExec, Setuid: m.Setuid, Devices: m.Devices, Tmpfs: m.Options,
		}, nil)
	}
	dir, below, err := c.mountDraft(ctx, nil, snapshot.DraftOptions{Memory: cmp.Or(m.Options.Size, runtime.MemoryTotal()/2)}) // as tmpfs has it
	if err != nil {
		return err
	}
	if err := m.restrict(c, dir); err != nil {
		return err
	}
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	err = ignoreUnmappedID(root.Chown(".", int(m.Options.UID), int(m.Options.GID)))
	if err := errors.Join(err, root.Chmod(".", fileMode(cmp.Or(m.Options.Mode, 0o1777))), root.Close()); err != nil {
		return err
	}
	return c.attach(m.target(), runtime.Mount{Source: dir, ReadOnly: m.ReadOnly, NoExec: m.NoExec, Devices: m.Devices}, below("/"))
}

// restrict gives the mount of a draft what the kernel gives one of tmpfs.
func (m *Tmpfs) restrict(c *Container, dir *os.File) error {
	if c.spec.Isolation == runtime.ByChroot {
		return nil // it is no mount
	}
	var attr unix.MountAttr
	if !m.Setuid {
		attr.Attr_set |= unix.MOUNT_ATTR_NOSUID
	}
	if m.Devices {
		attr.Attr_clr |= unix.MOUNT_ATTR_NODEV
	}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(int(dir.Fd()), "", unix.AT_EMPTY_PATH, &attr))
}
