package runtime

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// becomeUser drops what the container must not have, in the order in which it can be dropped: the bounding set and the
// groups while there is the capability to, the ids, then the capabilities themselves. SYS_ADMIN is kept for loading
// the filter, and goes last.
func (s *setup) becomeUser(caps capabilities) error {
	u := s.spec.User
	s.step = "capabilities"
	for c := range 64 { // the kernel may know more than we do; they are dropped like any other
		if caps.bounding&(1<<c) == 0 {
			s.call(unix.SYS_PRCTL, num(unix.PR_CAPBSET_DROP), num(c)).allow(errnos(unix.EINVAL))
		}
	}
	if s.spec.Security.NoNewPrivileges {
		s.step = "no_new_privs"
		s.call(unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
	}
	s.step = "groups of the user"
	if !s.rootless || setgroupsAllowed() {
		groups := make([]byte, 0, 4*len(u.Groups))
		for _, g := range u.Groups {
			groups = append(groups, byte(g), byte(g>>8), byte(g>>16), byte(g>>24))
		}
		s.call(unix.SYS_SETGROUPS, num(len(u.Groups)), s.bytes(groups))
	}
	s.step = "user " + u.String()
	if s.rootless && !(mapped("/proc/self/uid_map", u.UID) && mapped("/proc/self/gid_map", u.GID)) {
		_, why := Rootless()
		return &SetupError{s.step, errors.New("not in the " + why)}
	}
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_KEEPCAPS), num(1), num(0), num(0), num(0))
	s.call(unix.SYS_SETRESGID, num(u.GID), num(u.GID), num(u.GID))
	s.call(unix.SYS_SETRESUID, num(u.UID), num(u.UID), num(u.UID))
	s.step = "memory of its own"
	// With other ids the memory, which is the supervisor's too, is again as fs.suid_dumpable has it, which may be for the user to trace.
	// Nobody could so far: he would need all capabilities that are still there. Those that go do not change it.
	s.call(unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))
	s.step = "capabilities"
	s.call(unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT), num(unix.PR_CAP_AMBIENT_CLEAR_ALL), num(0), num(0), num(0)).
		allow(errnos(unix.EINVAL))
	s.capset((caps.bounding | 1<<unix.CAP_SYS_ADMIN) & caps.own)
	return nil
}

// capset sets the permitted and the effective set, and empties the inheritable one.
func (s *setup) capset(set uint64) {
	head := s.bytes([]byte{0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0}) // _LINUX_CAPABILITY_VERSION_3, this process
	low, high := set&0xffffffff, set>>32
	s.call(unix.SYS_CAPSET, head, s.words(low|low<<32, high<<32, high))
}

// confine loads the seccomp filter and then drops what was kept to load it with. Nothing but capset, execve and the
// telling of their failure comes after the filter.
func (s *setup) confine(caps capabilities, filter []unix.SockFilter, flags uint) {
	if len(filter) > 0 {
		s.step = "seccomp filter"
		code := make([]byte, 0, 8*len(filter))
		for _, i := range filter {
			code = binary.NativeEndian.AppendUint16(code, i.Code)
			code = append(code, i.Jt, i.Jf)
			code = binary.NativeEndian.AppendUint32(code, i.K)
		}
		prog := s.words(uint64(len(filter)), 0) // struct sock_fprog
		s.put(prog.plus(8), s.bytes(code))
		s.call(unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(flags), prog)
	}
	s.step = "capabilities"
	final := caps.bounding & caps.own
	if s.spec.User.UID != 0 {
		final = 0
	}
	s.capset(final)
}
