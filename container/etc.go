package container

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
)

// An EtcStyle says which files of /etc a container gets and how.
type EtcStyle int

// The styles of /etc.
const (
	// EtcOfBuild is BuildKit's: hosts and resolv.conf, read-only, and below what is mounted on /etc.
	EtcOfBuild EtcStyle = iota
	// EtcOfRun is docker's: hostname, hosts and resolv.conf, writable, and in what is mounted on /etc. What is mounted
	// on one of them takes its place.
	EtcOfRun
)

// A Host is a line of /etc/hosts.
type Host struct {
	Name string
	IP   netip.Addr // not valid is docker's host-gateway: the address at which a container reaches this machine
}

// The files of /etc that are ours.
const (
	resolvPath   = "/etc/resolv.conf"
	hostsPath    = "/etc/hosts"
	hostnamePath = "/etc/hostname"
)

// An etcMount is a small file of ours.
type etcMount struct {
	path, text string
	style      EtcStyle
}

func (m *etcMount) kind() string   { return "file" }
func (m *etcMount) target() string { return m.path }

func (m *etcMount) mount(_ context.Context, c *Container) error {
	if m.style == EtcOfBuild {
		f, err := c.factory.etc.shared(c.factory.Staging, m.text)
		if err != nil {
			return err
		}
		return c.attach(m.path, runtime.Mount{Source: f, ReadOnly: true, NoExec: true}, nil)
	}
	f, err := newEtcFile(c.factory.Staging, m.text)
	if err != nil {
		return err
	}
	c.open.Push(f.Close)
	if m.path != hostnamePath {
		c.etc = append(c.etc, &etcFile{path: m.path, text: m.text, file: f.File})
	}
	return c.attach(m.path, runtime.Mount{Source: f.File}, nil)
}

// etcMounts are the files of ours that the container gets.
func (c *Container) etcMounts() ([]Mount, error) {
	resolv, err := resolvConf(c.Network)
	if err != nil {
		return nil, err
	}
	hosts, err := c.hosts()
	if err != nil {
		return nil, err
	}
	style := c.options.Etc
	files := []*etcMount{{resolvPath, resolv, style}, {hostsPath, hosts, style}}
	if style == EtcOfRun {
		name := c.options.Hostname
		if name == "" {
			if name, err = os.Hostname(); err != nil {
				return nil, err
			}
		}
		files = append(files, &etcMount{hostnamePath, name + "\n", style})
	}
	var mounts []Mount
	for _, f := range files {
		if style == EtcOfBuild || !c.mountsOn(f.path) {
			mounts = append(mounts, f)
		}
	}
	return mounts, nil
}

// mountsOn reports whether the caller mounts something at a path.
func (c *Container) mountsOn(target string) bool {
	for _, m := range c.options.Mounts {
		if m.target() == target {
			return true
		}
	}
	return false
}

// hosts is the text of /etc/hosts.
func (c *Container) hosts() (string, error) {
	var b strings.Builder
	own := c.ownNames()
	switch {
	case c.options.Etc == EtcOfBuild:
		b.WriteString("127.0.0.1\tlocalhost " + c.options.Hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	case c.Network.Mode == "host":
		text, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		b.Write(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			b.WriteByte('\n')
		}
	default:
		local := "localhost"
		if len(c.Network.Addresses) == 0 {
			local += " " + own // which has no other address
		}
		b.WriteString("127.0.0.1\t" + local + "\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, h := range c.options.Hosts {
		ip := h.IP
		if !ip.IsValid() {
			if ip = c.hostGateway(); !ip.IsValid() {
				return "", fmt.Errorf("--add-host %s:host-gateway: a container cannot reach this machine over its network; name an address instead", h.Name)
			}
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, h.Name)
	}
	if c.options.Etc == EtcOfRun {
		for _, a := range c.Network.Addresses {
			fmt.Fprintf(&b, "%s\t%s\n", a, own)
		}
	}
	return b.String(), nil
}

// ownNames are the container's in /etc/hosts: as docker has it the one with its domain, and the first part of that.
func (c *Container) ownNames() string {
	whole := c.options.Hostname
	if c.options.Domain != "" {
		whole += "." + c.options.Domain
	}
	if first, _, ok := strings.Cut(whole, "."); ok {
		return whole + " " + first
	}
	return whole
}

// hostGateway is the address at which the container reaches this machine.
func (c *Container) hostGateway() netip.Addr {
	if c.Network.Mode == "host" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return c.Network.Gateway
}

// etcFiles are files that containers share, by what they hold: those of the steps of a build are mostly the same. They
// have names, in the staging directory, since the kernel mounts no file without one.
type etcFiles struct {
	mu    sync.Mutex // guards all
	files map[string]*os.File
	open  closers.Stack
}

// shared returns a file that holds text, for everyone to read. It is open until close.
func (e *etcFiles) shared(s *image.Staging, text string) (*os.File, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f, ok := e.files[text]; ok {
		return f, nil
	}
	staged, err := newEtcFile(s, text)
	if err != nil {
		return nil, err
	}
	e.open.Push(staged.Close)
	f, err := os.Open(staged.Name())
	if err != nil {
		return nil, err
	}
	e.open.Push(f.Close)
	if e.files == nil {
		e.files = make(map[string]*os.File)
	}
	e.files[text] = f
	return f, nil
}

func newEtcFile(s *image.Staging, text string) (*image.StagedFile, error) {
	f, err := s.Create()
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (e *etcFiles) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.files = nil
	return e.open.Close()
}

// A resolver is what a resolv.conf says: name servers, and the lines about everything else.
type resolver struct {
	servers []string
	others  string
}

// readResolver reads resolv.conf(5).
func readResolver(text string) (r resolver) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "nameserver" {
			if len(fields) > 1 {
				r.servers = append(r.servers, fields[1])
			}
			continue
		}
		r.others += line
	}
	if r.others != "" && !strings.HasSuffix(r.others, "\n") {
		r.others += "\n"
	}
	return r
}

// reachable are the name servers that a container with a network namespace of its own can reach.
func (r resolver) reachable() (list []string) {
	for _, s := range r.servers {
		addr, err := netip.ParseAddr(s)
		if err == nil && !addr.IsLoopback() && !addr.IsUnspecified() && addr.Zone() == "" {
			list = append(list, s)
		}
	}
	return list
}

// text is a resolv.conf with other name servers.
func (r resolver) text(servers []string) string {
	var b strings.Builder
	b.WriteString(r.others)
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	return b.String()
}

// machineResolver is the resolver of this machine. Where it has only name servers that a container cannot reach, it is the
// one behind systemd-resolved's 127.0.0.53, if there is one.
func machineResolver() (text string, r resolver, err error) {
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", r, err
	}
	r = readResolver(string(b))
	if len(r.reachable()) == 0 {
		if behind, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			if other := readResolver(string(behind)); len(other.reachable()) > 0 {
				r = other
			}
		}
	}
	return string(b), r, nil
}

// LoopbackServers are the name servers on this machine's loopback interface, if it has no others.
func LoopbackServers() (list []netip.AddrPort) {
	_, r, err := machineResolver()
	if err != nil || len(r.reachable()) > 0 {
		return nil
	}
	for _, s := range r.servers {
		if addr, err := netip.ParseAddr(s); err == nil && addr.IsLoopback() {
			list = append(list, netip.AddrPortFrom(addr, 53))
		}
	}
	return list
}

// NameServers are the servers that a name server of a container asks: those that are given or, without any, this machine's.
func NameServers(given []string) (list []netip.AddrPort, err error) {
	if len(given) == 0 {
		_, r, err := machineResolver()
		if err != nil {
			return nil, err
		}
		given = r.servers
	}
	for _, s := range given {
		if addr, err := netip.ParseAddr(s); err == nil { // others were refused, or are not for us to ask
			list = append(list, netip.AddrPortFrom(addr, 53))
		}
	}
	return list, nil
}

// resolvConf is the text of /etc/resolv.conf: the machine's, with name servers that can be reached from the container.
func resolvConf(network Network) (string, error) {
	text, r, err := machineResolver()
	r.others = network.others(r.others)
	switch {
	case err != nil:
		return "", err
	case len(network.DNS) > 0:
		// To a name server of ours a name without a dot is a whole one, which docker says by this option.
		if first, err := netip.ParseAddr(network.DNS[0]); err == nil && first.IsLoopback() && !strings.Contains(r.others, "ndots:") {
			r.others += "options ndots:0\n"
		}
		return r.text(network.DNS), nil
	case network.Mode == "host" && len(network.Search) == 0 && len(network.Options) == 0:
		return text, nil
	case network.Mode == "host":
		return r.text(r.servers), nil
	}
	return r.text(r.reachable()), nil
}

// others are the lines of a resolv.conf but those of name servers, with what the network says in the place of the machine's.
func (n *Network) others(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if len(n.Search) > 0 && (word == "search" || word == "domain") || len(n.Options) > 0 && word == "options" {
			continue
		}
		b.WriteString(line)
	}
	if len(n.Search) > 0 && n.Search[0] != "." {
		b.WriteString("search " + strings.Join(n.Search, " ") + "\n")
	}
	if len(n.Options) > 0 {
		b.WriteString("options " + strings.Join(n.Options, " ") + "\n")
	}
	return b.String()
}
