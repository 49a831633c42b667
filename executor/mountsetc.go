package executor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/forge-build/forge/image"
)

// etcFiles are small files that jobs mount, by what they hold: those of all jobs are mostly the same. They have names, in
// the staging directory, since the kernel mounts no file without one.
type etcFiles struct {
	mu    sync.Mutex // guards files
	files map[string]*etcFile
}

type etcFile struct {
	staged *image.StagedFile
	read   *os.File
}

// file returns a file that holds text, for everyone to read. It is open until close.
func (e *etcFiles) file(s *image.Staging, text string) (*os.File, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f, ok := e.files[text]; ok {
		return f.read, nil
	}
	staged, err := s.Create()
	if err != nil {
		return nil, err
	}
	_, err = staged.WriteString(text)
	if err = errors.Join(err, staged.Chmod(0o644)); err != nil {
		return nil, errors.Join(err, staged.Close())
	}
	read, err := os.Open(staged.Name())
	if err != nil {
		return nil, errors.Join(err, staged.Close())
	}
	if e.files == nil {
		e.files = make(map[string]*etcFile)
	}
	e.files[text] = &etcFile{staged, read}
	return read, nil
}

func (e *etcFiles) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, f := range e.files {
		errs = append(errs, f.read.Close(), f.staged.Close())
	}
	e.files = nil
	return errors.Join(errs...)
}

// HostsFile is /etc/hosts of a machine called hostname, with what --add-host adds, each "name:ip" or "name=ip".
func HostsFile(hostname string, extra []string) (string, error) {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost " + hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, h := range extra {
		name, ip, ok := strings.Cut(h, "=")
		if !ok {
			name, ip, ok = strings.Cut(h, ":")
		}
		addr, err := netip.ParseAddr(strings.Trim(ip, "[]"))
		if !ok || name == "" || strings.ContainsAny(name, " \t\n") || err != nil {
			return "", fmt.Errorf("--add-host %s: is not name:ip", h)
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	return b.String(), nil
}

// ResolvConf is /etc/resolv.conf for a container: the machine's, without name servers that cannot be reached from a
// network namespace of one's own.
func ResolvConf(network StepNetwork) (string, error) {
	const systemd = "/run/systemd/resolve/resolv.conf" // what systemd-resolved knows behind its 127.0.0.53
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if network.Mode == "host" {
		return string(text), nil
	}
	if dns := network.DNS; len(dns) > 0 {
		return "nameserver " + strings.Join(dns, "\nnameserver ") + "\n", nil
	}
	reachable, some := withoutLoopback(string(text))
	if !some {
		if text, err := os.ReadFile(systemd); err == nil {
			reachable, _ = withoutLoopback(string(text))
		}
	}
	return reachable, nil
}

// withoutLoopback drops name servers of this machine's loopback and tells whether any other is left.
func withoutLoopback(text string) (kept string, some bool) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "nameserver" {
			addr, err := netip.ParseAddr(fields[1])
			if err != nil || addr.IsLoopback() {
				continue
			}
			some = true
		}
		b.WriteString(line)
	}
	return b.String(), some
}
