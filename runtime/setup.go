package runtime

import (
	"cmp"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A setup is the program that makes one container, and the files it needs. The process that carries it out is the
// supervisor. It is process 1 of an outer pid namespace with nothing in it but the inner one of the container, where the
// child it makes becomes the command. The supervisor holds a socket to the caller: when that is closed, it ends, and the
// kernel kills everything in the inner one. A container cannot see the supervisor, so it cannot prevent that. A parent death
// signal (PR_SET_PDEATHSIG) it could reset.
type setup struct {
	program
	spec     *Spec
	rootless bool
	files    []uintptr  // descriptors of the supervisor, by number
	owned    []*os.File // what was opened for it, to be closed once it runs
	set      [3]bool    // which of stdio is set
	init     *setup     // the program of process 1 if that is not the command
	self     arg        // pidfd of the supervisor, where its end is not that of the process
	target   *Target    // whose namespaces are joined, nil for a new container
	cgroup   *cgroup    // nil if there is none
	netns    *netns     // nil if none is made
	mounted
	execCandidates
}

// mounted are the descriptors of what the program mounts.
type mounted struct {
	root   arg     // the root directory
	dev    arg     // /dev
	devpts arg     // /dev/pts
	slave  arg     // of the terminal
	sysctl arg     // /proc/sys, not read-only
	shm    arg     // another container's /dev/shm
	empty  arg     // an empty directory to make masks from
	places *places // in the place of mounts, for a process that is isolated by chroot
}

// execCandidates are the places where the command may be, and what came of executing it there: a word each.
type execCandidates struct {
	paths   []string
	results arg
	report  *os.File // where process 1 tells of them, if that is not the command
}

// Numbers of descriptors in the supervisor.
const (
	interpreterFD = 3
	sockFD        = 4
	pidfdFD       = 5 // once there is a process
	copiesFD      = 6 // the first of those in a root directory
)

// pass adds a file to the supervisor's and returns its number there.
func (s *setup) pass(f *os.File) int {
	s.files = append(s.files, f.Fd())
	return len(s.files) - 1
}

// own has f closed when the container runs.
func (s *setup) own(f *os.File) *os.File {
	s.owned = append(s.owned, f)
	return f
}

// warn tells the caller, before the process runs, what is not as it asked for.
func (s *setup) warn(text string) {
	if s.spec.Warn != nil {
		s.spec.Warn(text)
	}
}

func (s *setup) close() {
	s.closeOwned()
	s.netns.close()
	if s.init != nil {
		s.init.report.Close()
	}
}

// closeOwned closes what the supervisor has by now.
func (s *setup) closeOwned() {
	for _, f := range s.owned {
		f.Close()
	}
	s.owned = nil
}

// how adds a struct open_how.
func (p *program) how(flags, resolve uint64) arg { return p.words(flags, 0, resolve) }

// sizeofHow is the size of open_how.
const sizeofHow = 24

// inRoot resolves path as a process whose root is dir would, never through a link of /proc.
func (p *program) inRoot(dir arg, path string, flags uint64) *op {
	how := p.how(flags|unix.O_PATH|unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	return p.call(unix.SYS_OPENAT2, dir, p.str(path), how, num(sizeofHow))
}

// beneath opens a path none of whose components is a link.
func (p *program) beneath(dir arg, path string, flags uint64) *op {
	how := p.how(flags|unix.O_PATH|unix.O_CLOEXEC, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	return p.call(unix.SYS_OPENAT2, dir, p.str(path), how, num(sizeofHow))
}

// An option of a file system, key and value: a flag if it has no value.
type option [2]string

// newMount makes a detached mount of a new file system with the attributes, and returns its descriptor.
func (p *program) newMount(fstype string, attrs uint64, options ...option) arg {
	const create, setFlag, setString = unix.FSCONFIG_CMD_CREATE, unix.FSCONFIG_SET_FLAG, unix.FSCONFIG_SET_STRING
	context, mount := p.word(), p.word()
	name := p.str(fstype)
	p.call(unix.SYS_FSOPEN, name, num(unix.FSOPEN_CLOEXEC)).into(context)
	p.call(unix.SYS_FSCONFIG, context, num(setString), p.str("source"), name) // what df shows; else it is "none"
	for _, o := range options {
		if o[1] == "" {
			p.call(unix.SYS_FSCONFIG, context, num(setFlag), p.str(o[0]))
		} else {
			p.call(unix.SYS_FSCONFIG, context, num(setString), p.str(o[0]), p.str(o[1]))
		}
	}
	p.call(unix.SYS_FSCONFIG, context, num(create))
	p.call(unix.SYS_FSMOUNT, context, num(unix.FSMOUNT_CLOEXEC), num(attrs)).into(mount)
	p.call(unix.SYS_CLOSE, context)
	return mount
}

// attach mounts a detached mount on a directory or file.
func (p *program) attach(mount, target arg) *op {
	empty := p.str("")
	return p.call(unix.SYS_MOVE_MOUNT, mount, empty, target, empty,
		num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// clone makes a detached mount of path beneath dir ("" is dir itself).
func (p *program) clone(dir arg, path string) *op {
	return p.call(unix.SYS_OPEN_TREE, dir, p.str(path),
		num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_SYMLINK_NOFOLLOW))
}

// attributes sets attributes of a mount.
func (p *program) attributes(mount arg, set uint64) *op {
	return p.call(unix.SYS_MOUNT_SETATTR, mount, p.str(""), num(unix.AT_EMPTY_PATH), p.words(set, 0, 0, 0), num(32))
}

// cloneMount makes a detached mount of what a file is, and of what is mounted in it, with attributes of its own. That is done here, not in the program,
// since a mount can be cloned only in the mount namespace it is in.
func cloneMount(f *os.File, a *unix.MountAttr) (*os.File, error) {
	const at = unix.AT_EMPTY_PATH | unix.AT_RECURSIVE
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|at)
	if err == unix.EINVAL { // before Linux 6.15 a detached mount cannot be cloned: take the one there is
		fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	}
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	if err := unix.MountSetattr(fd, "", at, a); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("mount_setattr", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// mountAll mounts the root and what is below it. The network is entered before what is of its namespace: sysctls, and /sys.
func (s *setup) mountAll() error {
	if err := s.mountRoot(); err != nil {
		return err
	}
	if err := s.mountDev(); err != nil {
		return err
	}
	if err := s.mountProc(); err != nil {
		return err
	}
	s.enterNetwork()
	if err := s.sysctls(); err != nil {
		return err
	}
	if err := s.mountSys(); err != nil {
		return err
	}
	return s.mounts()
}

// mountRoot puts the root on top of everything, as a mount nothing propagates from or to.
func (s *setup) mountRoot() error {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if s.devices() {
		attr.Attr_set, attr.Attr_clr = 0, unix.MOUNT_ATTR_NODEV
	}
	if s.spec.Security.ReadOnlyRoot {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	root, err := cloneMount(s.spec.Root, attr)
	if err != nil {
		return &SetupError{"root", err}
	}
	s.root = num(s.pass(s.own(root)))

	s.step = "private mounts"
	s.privateMounts()
	s.step = "mount root"
	s.call(unix.SYS_MOVE_MOUNT, s.root, s.str(""), num(unix.AT_FDCWD), s.str("/"), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
	return nil
}

// pivot makes the root the root and lets go of the host's mounts. The seccomp profile of a container around, docker's among
// them, may refuse pivot_root where it lets us mount. As the root is mounted on "/", on top of everything, there is no way back
// from it then either: ".." ends there. What lies below could only be unmounted into sight, by who has the right to.
func (s *setup) pivot(caps capabilities) {
	s.step = "pivot_root"
	dot := s.str(".")
	s.call(unix.SYS_FCHDIR, s.root)
	refused := s.call(unix.SYS_PIVOT_ROOT, dot, dot)
	if caps.bounding&(1<<unix.CAP_SYS_ADMIN) == 0 {
		refused.allow(errnos(unix.EPERM, unix.ENOSYS))
	}
	s.step = "detach the host's root"
	s.call(unix.SYS_UMOUNT2, dot, num(unix.MNT_DETACH))
	pivoted := s.jump()
	s.endSkip(refused)
	s.step = "chroot"
	s.call(unix.SYS_CHROOT, dot)
	s.endSkip(pivoted)
	s.call(unix.SYS_CHDIR, s.str("/"))
}

// mounts adds the caller's mounts.
func (s *setup) mounts() error {
	for i := range s.spec.Mounts {
		m := &s.spec.Mounts[i]
		if !strings.HasPrefix(m.Target, "/") {
			return &SetupError{"mount " + m.Target, unix.EINVAL}
		}
		s.step = "mount " + m.Target
		mount, kind, err := s.source(m)
		if err != nil {
			return &SetupError{s.step, err}
		}
		s.step = "mount point " + m.Target
		target := s.word()
		if rest, ok := strings.CutPrefix(cleanPath(m.Target), "/dev/"); ok {
			absent := s.inRoot(s.root, m.Target, 0).into(target).allow(errnos(unix.ENOENT))
			there := s.jump()
			s.endSkip(absent)
			s.makeDev(rest, kind)
			s.inRoot(s.root, "/dev/"+rest, 0).into(target)
			s.endSkip(there)
		} else {
			s.inRoot(s.root, m.Target, 0).into(target)
		}
		s.step = "mount " + m.Target
		s.attach(mount, target)
		s.call(unix.SYS_CLOSE, target)
	}
	return nil
}

// source returns what to mount, and the type bits of its mode.
func (s *setup) source(m *Mount) (mount arg, kind os.FileMode, err error) {
	var attrs uint64
	for _, a := range []struct {
		on  bool
		set uint64
	}{
		{m.ReadOnly, unix.MOUNT_ATTR_RDONLY},
		{m.NoExec, unix.MOUNT_ATTR_NOEXEC},
		{!m.Devices && (m.Source == nil || !s.devices()), unix.MOUNT_ATTR_NODEV},
		{m.Source == nil && !m.Setuid, unix.MOUNT_ATTR_NOSUID},
	} {
		if a.on {
			attrs |= a.set
		}
	}
	if m.Source == nil {
		options := tmpfsOptions(m.Tmpfs.Size, m.Tmpfs.Mode)
		for _, id := range []option{{"uid", strconv.Itoa(int(m.Tmpfs.UID))}, {"gid", strconv.Itoa(int(m.Tmpfs.GID))}} {
			if id[1] != "0" {
				options = append(options, id)
			}
		}
		return s.newMount("tmpfs", attrs, options...), os.ModeDir, nil
	}
	info, err := m.Source.Stat()
	if err != nil {
		return arg{}, 0, err
	}
	f, err := cloneMount(m.Source, &unix.MountAttr{
		Attr_set: attrs | m.Attributes.Set, Attr_clr: m.Attributes.Clear, Propagation: cmp.Or(m.Propagation, unix.MS_PRIVATE),
	})
	if err != nil {
		return arg{}, 0, err
	}
	return num(s.pass(s.own(f))), info.Mode().Type(), nil
}

// makeDev makes a mount point in /dev, directory by directory. That is a file system of our own; what the caller has
// mounted in it, or a link, is not gone through.
func (s *setup) makeDev(path string, kind os.FileMode) {
	const flags = unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY
	how := s.how(flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	parent, parts := s.dev, strings.Split(path, "/")
	for _, part := range parts[:len(parts)-1] {
		name, next := s.str(part), s.word()
		s.call(unix.SYS_MKDIRAT, parent, name, num(0o755)).allow(errnos(unix.EEXIST))
		s.call(unix.SYS_OPENAT2, parent, name, how, num(sizeofHow)).into(next)
		parent = next
	}
	name := s.str(parts[len(parts)-1])
	if kind.IsDir() {
		s.call(unix.SYS_MKDIRAT, parent, name, num(0o755)).allow(errnos(unix.EEXIST))
	} else {
		s.call(unix.SYS_MKNODAT, parent, name, num(unix.S_IFREG|0o644), num(0)).allow(errnos(unix.EEXIST))
	}
}
