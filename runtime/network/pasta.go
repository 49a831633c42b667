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
// outside gets in but by published ports.
func (s *Store) userMode(ctx context.Context, o Options) (b *Sandbox, err error) {
	for _, a := range o.Networks {
		if n, err := s.Find(a.Network); err != nil {
			return nil, err
		} else if n.Name != DefaultName {
			return nil, userNetworks()
		}
		if a.Address.IsValid() || len(a.Aliases) > 0 {
			return nil, userNetworks()
		}
	}
	pasta, err := findPasta()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(string(s.account), 0o700); err != nil {
		return nil, err
	}
	list, err := freePorts(o.Ports)
	if err != nil {
		return nil, err
	}
	namespace, err := runtime.NewNetworkNamespace()
	if err != nil {
		return nil, err
	}
	b = &Sandbox{Namespace: namespace, store: s, container: o.Container, name: o.Name, ports: &publication{list: list}}
	if b.pasta, err = startPasta(ctx, pasta, string(s.account), namespace, list); err != nil {
		return nil, errors.Join(err, namespace.Close())
	}
	n := predefined(DefaultName)
	l := &lease{network: n, Endpoint: Endpoint{
		Network: n.Name, NetworkID: n.ID, Container: o.Container, Name: o.Name, Interface: "eth0", Bindings: list,
	}}
	if l.Address, err = ownAddress(namespace); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.leases = []*lease{l}
	return b, nil
}

// freePorts finds numbers for ports. They are pasta's to take: somebody else may be faster, and then pasta fails.
func freePorts(ports []Port) ([]Binding, error) {
	p, err := reserve(ports)
	if err != nil {
		return nil, err
	}
	return p.list, p.close()
}

// portOptions are pasta's for ports.
func portOptions(list []Binding) []string {
	options := map[string][]string{}
	for _, b := range list {
		options[b.Protocol] = append(options[b.Protocol], fmt.Sprintf("%s/%d:%d", b.Address, b.Port, b.Container))
	}
	var args []string
	for _, protocol := range []string{"tcp", "udp"} {
		specs := options[protocol]
		if len(specs) == 0 {
			specs = []string{"none"}
		}
		for _, s := range specs {
			args = append(args, "--"+protocol+"-ports", s)
		}
	}
	return args
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
func startPasta(ctx context.Context, pasta, dir string, namespace *os.File, ports []Binding) (stop func() error, err error) {
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
	args := append([]string{"--foreground", "--config-net", "--quiet", "--pid", pid}, portOptions(ports)...)
	cmd := exec.Command(pasta, append(
		args, "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw",
		// It closes all it inherits but stdio, and drops the privilege to look at files of ours.
		"--no-netns-quit", "--netns", "/proc/self/fd/0")...)
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
