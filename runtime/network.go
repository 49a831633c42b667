package runtime

import (
	"os"
	goruntime "runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// A netns is a network namespace in the making.
type netns struct {
	done chan struct{}
	file *os.File
	err  error
}

// newNetns makes a network namespace with nothing but a loopback interface, on a thread of its own: it takes the kernel
// longer than all the rest.
func newNetns() *netns {
	n := &netns{done: make(chan struct{})}
	go func() {
		defer close(n.done)
		// A thread that cannot get back to its namespace ends with the goroutine, which keeps it locked.
		goruntime.LockOSThread()
		back, err := threadNetns()
		if err != nil {
			n.err = err
			return
		}
		defer back.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			n.err = os.NewSyscallError("unshare", err)
			return
		}
		unprivilegedNetwork()
		if n.err = loopbackUp(); n.err == nil {
			n.file, n.err = threadNetns()
		}
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			goruntime.UnlockOSThread()
		}
	}()
	return n
}

// threadNetns opens the network namespace of the calling thread, which a socket of it knows. By /proc/thread-self the kernel would keep names
// of files of the thread, which are looked for when the thread ends and again when the process does, by one waiting for the other.
func threadNetns() (*os.File, error) {
	const path = "/proc/thread-self/ns/net"
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.Open(path)
	}
	defer unix.Close(fd)
	space, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGSKNS, 0)
	if errno != 0 { // the namespace is not this user's
		return os.Open(path)
	}
	return os.NewFile(space, path), nil
}

// unprivilegedNetwork lets every user of the thread's network namespace listen on ports below 1024 and send ICMP echoes, as
// docker does: what a container may do is not a question of its user. Where /proc/sys cannot be written to, it stays as the
// kernel has it.
func unprivilegedNetwork() {
	const dir = "/proc/sys/net/ipv4/"
	_ = os.WriteFile(dir+"ip_unprivileged_port_start", []byte("0"), 0)
	if err := os.WriteFile(dir+"ping_group_range", []byte("0 2147483647"), 0); err != nil {
		// A user namespace takes only the groups that it has.
		last := uint64(0)
		for _, r := range idRanges("/proc/self/gid_map") {
			last = max(last, r[1]-1)
		}
		_ = os.WriteFile(dir+"ping_group_range", []byte("0 "+strconv.FormatUint(last, 10)), 0)
	}
}

// loopbackUp brings up the interface lo of the thread's network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifreq.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("interface lo", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifreq))
}

// close gives the namespace back, whether it was used or not.
func (n *netns) close() {
	if n == nil {
		return
	}
	<-n.done
	if n.file != nil {
		n.file.Close()
	}
}

// ownNetwork reports whether the process gets a network namespace made for it here.
func (s *Spec) ownNetwork() bool {
	return s.Network.Mode != "host" && (s.Network.Mode != "default" || s.Network.Namespace == nil)
}

// enterNetwork puts the process into its network namespace: a new one with nothing but a loopback interface, the one
// prepared for it, or, by the caller's word only, the host's.
func (s *setup) enterNetwork() {
	s.step = "network namespace"
	switch n := &s.spec.Network; {
	case n.Mode == "host":
	case !s.spec.ownNetwork():
		s.call(unix.SYS_SETNS, num(s.pass(n.Namespace)), num(unix.CLONE_NEWNET))
	default:
		// It comes over the socket when it is ready, which may be later than this.
		control, buf := s.space(24), s.space(8)
		vec := s.words(0, 1)
		s.put(vec, buf)
		msg := s.words(0, 0, 0, 1, 0, 24, 0) // struct msghdr
		s.put(msg.plus(16), vec)
		s.put(msg.plus(32), control)
		s.call(unix.SYS_RECVMSG, num(sockFD), msg, num(unix.MSG_CMSG_CLOEXEC))
		fd := control.plus(16).ref()
		s.call(unix.SYS_SETNS, fd, num(unix.CLONE_NEWNET))
		s.call(unix.SYS_CLOSE, fd)
	}
}

// sendNetwork sends the namespace that the process waits for.
func (s *setup) sendNetwork(p *Process) error {
	if s.netns == nil {
		return nil
	}
	<-s.netns.done
	if s.netns.err != nil {
		return &SetupError{"network namespace", s.netns.err}
	}
	rights := unix.UnixRights(int(s.netns.file.Fd()))
	err := unix.Sendmsg(int(p.sock.Fd()), []byte("n"), rights, nil, unix.MSG_NOSIGNAL)
	if err == nil || err == unix.EPIPE || err == unix.ECONNRESET {
		return nil // an end that is closed has failed before, and says why itself
	}
	return &SetupError{"network namespace", err}
}

// NewNetworkNamespace makes a network namespace with nothing but a loopback interface. It is gone when the file is
// closed and no process is in it.
func NewNetworkNamespace() (*os.File, error) { return BeginNetworkNamespace()() }

// BeginNetworkNamespace begins to make what [NewNetworkNamespace] makes, on another thread. The function that it returns waits
// until that is made; it is called once, and the file is the caller's.
func BeginNetworkNamespace() func() (*os.File, error) {
	n := newNetns()
	return func() (*os.File, error) {
		<-n.done
		return n.file, n.err
	}
}

// InNetworkNamespace calls f on a thread that is in the namespace.
func InNetworkNamespace(namespace *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		// A thread that cannot get back to its namespace ends with the goroutine, which keeps it locked. The first thread of a
		// process does not end, and would keep the namespace.
		goruntime.LockOSThread()
		back, err := threadNetns()
		if err != nil {
			done <- err
			return
		}
		defer back.Close()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		err = f()
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			goruntime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
