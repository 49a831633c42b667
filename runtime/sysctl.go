package runtime

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls writes the settings of the kernel that belong to the container's namespaces, by a procfs that is not read-only.
func (s *setup) sysctls() error {
	names := make([]string, 0, len(s.spec.Sysctls))
	for name := range s.spec.Sysctls {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.allowSysctl(name); err != nil {
			return &SetupError{"sysctl", err}
		}
		value := s.spec.Sysctls[name]
		s.step = "sysctl " + name
		fd := s.word()
		how := s.how(unix.O_WRONLY|unix.O_CLOEXEC, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		s.call(unix.SYS_OPENAT2, s.sysctl, s.str(sysctlPath(name)), how, num(sizeofHow)).into(fd)
		s.call(unix.SYS_WRITE, fd, s.str(value), num(len(value)))
		s.call(unix.SYS_CLOSE, fd)
	}
	return nil
}

// sysctlPath is the path of a setting below /proc/sys. As in sysctl(8), what comes first in the name separates, and the other
// of the two is part of a name.
func sysctlPath(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '/' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// allowSysctl finds settings that would be the host's, as docker does.
func (s *setup) allowSysctl(name string) error {
	path := sysctlPath(name)
	ipc := strings.HasPrefix(path, "fs/mqueue/") || slices.Contains([]string{
		"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
	}, path)
	up := slices.Contains(strings.Split(path, "/"), "..")
	switch {
	case strings.Contains(name, "\x00"), strings.Contains(s.spec.Sysctls[name], "\x00"):
		return fmt.Errorf("%q has a zero byte", name)
	case up, !ipc && !strings.HasPrefix(path, "net/"):
		return fmt.Errorf("'%s' is not allowed", name)
	case ipc && s.spec.Shared.IPC.Host:
		return fmt.Errorf("%s not allowed in host ipc namespace", name)
	case ipc:
		return nil
	case s.spec.Network.Mode == "host":
		return fmt.Errorf("%s not allowed in host network namespace", name)
	}
	return nil
}
