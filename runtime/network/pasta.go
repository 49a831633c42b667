package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// userMode connects a new namespace to the host by pasta, which needs no privilege: it is a process that copies
// between a tap device inside and sockets outside. Nothing inside can reach the host's loopback addresses, and nothing
// outside gets in.
func userMode(ctx context.Context, dir string) (*Network, error) {
	pasta, err := exec.LookPath("pasta")
	if err != nil {
		return nil, errors.New("pasta is not installed")
	}
	namespace, err := runtime.NewNetworkNamespace()
	if err != nil {
		return nil, err
	}
	pid, err := startPasta(ctx, pasta, dir, namespace)
	if err != nil {
		namespace.Close()
		return nil, err
	}
	return &Network{Namespace: namespace, release: func() error { return stop(pid) }}, nil
}

// startPasta returns once pasta is in the background and the interface is there. It ends by itself when the file it was
// given is gone, which is with this process at the latest.
func startPasta(ctx context.Context, pasta, dir string, namespace *os.File) (pid *os.File, err error) {
	pidFile := filepath.Join(dir, "pasta-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(int(namespace.Fd())))
	defer os.Remove(pidFile)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, pasta, "--config-net", "--quiet", "--pid", pidFile,
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw",
		"--netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), namespace.Fd()))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// The background process keeps its standard error: a file, unlike a pipe, nobody waits for the end of.
	log, err := os.CreateTemp(dir, "pasta-log-")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	defer os.Remove(log.Name())
	cmd.Stderr = log
	if err := cmd.Run(); err != nil {
		if b, _ := os.ReadFile(log.Name()); len(b) > 0 {
			said.Write(b[:min(len(b), 500)])
		}
		return nil, fmt.Errorf("pasta: %w: %s", err, strings.TrimSpace(said.String()))
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, fmt.Errorf("pasta: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("pasta: %w", err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		return nil, fmt.Errorf("pasta: %w", err)
	}
	return os.NewFile(uintptr(fd), "pasta"), nil
}

// stop ends a process that is not our child and waits for it, for a second at most.
func stop(pid *os.File) error {
	defer pid.Close()
	err := unix.PidfdSendSignal(int(pid.Fd()), unix.SIGTERM, nil, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	poll := []unix.PollFd{{Fd: int32(pid.Fd()), Events: unix.POLLIN}}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if n, err := unix.Poll(poll, 100); n > 0 || err != nil && err != unix.EINTR {
			return nil
		}
	}
	return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(int(pid.Fd()), unix.SIGKILL, nil, 0))
}
