package runtime

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Target is a running container that any process of its user may have started. What is done to it is done to the
// process that its [Ref] named when it was opened, or fails with os.ErrProcessDone: a number that was given anew is never
// taken for it. Its methods may be called concurrently.
type Target struct {
	Ref
	pidfd *os.File
}

// errOtherNamespace is why nothing can be done to a container.
var errOtherNamespace = errors.New("the container is in another user namespace than this process: restart the container, which brings it into the one that all have now")

// Open finds the container that a record names. It is os.ErrProcessDone that it has ended. A container in a user namespace that
// this process has no rights in is an error.
func Open(r Ref) (*Target, error) {
	fd, err := unix.PidfdOpen(r.Pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	t := &Target{Ref: r, pidfd: os.NewFile(uintptr(fd), "container")}
	// The number cannot be another's while the descriptor is that of a living process: what is read by number is looked
	// at first, and the descriptor then.
	started, err := startTime(r.Pid)
	if _, linkErr := os.Readlink("/proc/" + strconv.Itoa(r.Pid) + "/ns/user"); err == nil && errors.Is(linkErr, fs.ErrPermission) {
		err = errOtherNamespace
	}
	if (err == nil || errors.Is(err, errOtherNamespace)) && (started != r.Started || t.gone(0)) {
		err = os.ErrProcessDone
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Close gives the target's descriptor back. It does nothing to the container.
func (t *Target) Close() error { return t.pidfd.Close() }

// Root opens the container's root directory, with all that is mounted in it, only to open what is in it. It is os.ErrProcessDone
// that the container has ended.
func (t *Target) Root() (*os.File, error) {
	f, err := os.OpenFile("/proc/"+strconv.Itoa(t.Pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if t.gone(0) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) { // the number may be another's, or it is ending
		if err == nil {
			err = f.Close()
		}
		return nil, errors.Join(os.ErrProcessDone, err)
	}
	return f, err
}

// Signal sends a signal to the container's first process, as [Process.Signal] does. Killing it ends its being frozen.
func (t *Target) Signal(sig os.Signal) error { return sendSignal(t.pidfd, sig, t.Cgroups) }

// gone reports whether the process has ended, or does within a time.
func (t *Target) gone(within time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(t.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, int(within.Milliseconds()))
	return err == nil && n > 0
}

// pidOf is the number of the process of a pidfd, 0 if it is gone.
func pidOf(pidfd *os.File) int {
	info, _ := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(pidfd.Fd())))
	_, rest, _ := bytes.Cut(info, []byte("Pid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(line)))
	return max(pid, 0)
}
