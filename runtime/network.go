package runtime

import (
	"golang.org/x/sys/unix"
)

// enterNetwork puts the process into its network namespace: a new one with nothing but a loopback interface, the one
// prepared for it, or, by the caller's word only, the host's.
func (s *setup) enterNetwork() {
	s.step = "network namespace"
	n := &s.spec.Network
	switch {
	case n.Mode == "host":
	case n.Mode == "default" && n.Namespace != nil:
		s.call(unix.SYS_SETNS, num(s.pass(n.Namespace)), num(unix.CLONE_NEWNET))
	default:
		s.call(unix.SYS_UNSHARE, num(unix.CLONE_NEWNET))
		s.step = "loopback interface"
		sock := s.word()
		s.call(unix.SYS_SOCKET, num(unix.AF_INET), num(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), num(0)).into(sock)
		ifreq := make([]byte, 40)
		copy(ifreq, "lo")
		ifreq[16] = unix.IFF_UP
		s.call(unix.SYS_IOCTL, sock, num(unix.SIOCSIFFLAGS), s.bytes(ifreq))
		s.call(unix.SYS_CLOSE, sock)
	}
}
