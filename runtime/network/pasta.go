package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/runtime"
)

// userMode connects a new namespace to the host by pasta, which needs no privilege: it is a process that copies
// between a tap device inside and sockets outside. Nothing inside can reach the host's loopback addresses, and nothing
// outside gets in but by published ports, whose sockets are this process's: pasta's own are not reached at [::1] or at the
// machine's own address, which is the container's too, and would have to be found free before.
func (s *Store) userMode(ctx context.Context, o Options) (b *Sandbox, err error) {
	for _, a := range o.Networks {
		if n, err := s.Find(a.Network); err != nil {
			return nil, err
		} else if n.Name != DefaultName {
			return nil, userNetworks()
		}
		if a.Address.IsValid() || len(a.Aliases) > 0 || a.Interface != "" {
			return nil, userNetworks()
		}
	}
	pasta, err := findPasta()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.account.root, 0o700); err != nil {
		return nil, err
	}
	b = &Sandbox{store: s, container: o.Container, name: o.Name}
	b.pasta = func() error { return nil }
	if b.ports, err = reserve(o.Ports); err != nil {
		return nil, err
	}
	if b.Namespace, err = runtime.NewNetworkNamespace(); err == nil {
		var stop func() error
		if stop, err = startPasta(ctx, pasta, s.account.root, b.Namespace); err == nil {
			b.pasta = stop
			err = b.userEndpoint()
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// userEndpoint describes what pasta has made.
func (b *Sandbox) userEndpoint() error {
	address, err := ownAddress(b.Namespace)
	if err != nil {
		return err
	}
	n := predefined(DefaultName)
	b.leases = []*lease{{network: n, Endpoint: Endpoint{
		Network: n.Name, NetworkID: n.ID, Container: b.container, Name: b.name, Interface: "eth0", Address: address,
		Bindings: b.ports.bindings(),
	}}}
	b.ports.from(b.Namespace)
	b.ports.lead(b.leases[0])
	return nil
}

func findPasta() (string, error) {
	path, err := exec.LookPath("pasta")
	if err != nil {
		return "", errors.New("pasta is not installed")
	}
	return path, nil
}

// ownAddress is the first IPv4 address of a namespace that is not of the loopback interface; zero if there is none.
func ownAddress(namespace *os.File) (address netip.Prefix, err error) {
	err = runtime.InNetworkNamespace(namespace, func() error {
		addrs, err := net.InterfaceAddrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
				address = p
				return nil
			}
		}
		return err
	})
	return address, err
}

// startPasta returns once the interface is there, with the function that ends pasta.
func startPasta(ctx context.Context, pasta, dir string, namespace *os.File) (stop func() error, err error) {
	work, err := os.MkdirTemp(dir, "pasta-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	log, err := os.Create(filepath.Join(work, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	pid := filepath.Join(work, "pid")
	cmd := exec.Command(pasta, "--foreground", "--config-net", "--quiet", "--pid", pid,
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw",
		// It closes all it inherits but stdio, and drops the privilege to look at files of ours.
		"--no-netns-quit", "--netns", "/proc/self/fd/0")
	cmd.Stdin, cmd.Stderr = namespace, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	exited := make(chan error, 1)
	started := make(chan error)
	go func() {
		// It is the death of this thread that kills pasta: it has to live as long.
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	stop = func() error {
		_ = cmd.Process.Kill() // there is nothing in it to be put in order
		<-exited               //nolint:errcheck // it was killed
		return nil
	}
	// The number is written when all is ready.
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if b, err := os.ReadFile(pid); err == nil && bytes.HasSuffix(b, []byte("\n")) {
			return stop, nil
		}
		select {
		case err := <-exited:
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("pasta: %w: %s", err, lastLine(said))
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), stop())
		case <-time.After(wait):
		}
	}
}

// lastLine of what a program said is why it ended.
func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
