package container

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forge-build/forge/runtime"
)

func TestResolver(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		{"# c\nsearch a b\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0", "# c\nsearch a b\noptions edns0\nnameserver 192.0.2.1\n"},
		{"nameserver ::1\nnameserver 127.0.0.1", ""},
		{"nameserver fe80::1%eth0\nnameserver 2001:db8::1\n", "nameserver 2001:db8::1\n"},
		{"nameserver\nnameserver x\n", ""},
		{"", ""},
	} {
		r := readResolver(test.in)
		if got := r.text(r.reachable()); got != test.want {
			t.Errorf("%q becomes %q, want %q", test.in, got, test.want)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr
	bridged := Network{Network: runtime.Network{Mode: "default"}, Addresses: []netip.Addr{ip("10.1.2.3"), ip("10.4.0.3")}, Gateway: ip("10.1.2.1")}
	for _, test := range []struct {
		name    string
		network Network
		style   EtcStyle
		hosts   []Host
		want    []string // lines
		not     string
		domain  string
	}{
		{"a build", bridged, EtcOfBuild, nil, []string{"127.0.0.1\tlocalhost box", "::1\tlocalhost ip6-localhost ip6-loopback"}, "10.1.2.3", "d.test"},
		{"a run", bridged, EtcOfRun, nil, []string{"127.0.0.1\tlocalhost", "10.1.2.3\tbox", "10.4.0.3\tbox"}, "localhost box", ""},
		{"a domain", bridged, EtcOfRun, nil, []string{"10.1.2.3\tbox.d.test box", "10.4.0.3\tbox.d.test box"}, "", "d.test"},
		{"a run alone", Network{Network: runtime.Network{Mode: "none"}}, EtcOfRun, nil, []string{"127.0.0.1\tlocalhost box"}, "", ""},
		{"a domain alone", Network{Network: runtime.Network{Mode: "none"}}, EtcOfRun, nil, []string{"127.0.0.1\tlocalhost box.d box"}, "", "d"},
		{"more", bridged, EtcOfRun, []Host{{"a", ip("10.0.0.1")}, {"gw", netip.Addr{}}}, []string{"10.0.0.1\ta", "10.1.2.1\tgw"}, "", ""},
		{"the host's", Network{Network: runtime.Network{Mode: "host"}}, EtcOfRun, []Host{{"gw", netip.Addr{}}}, []string{"127.0.0.1\tgw"}, "\tbox", ""},
	} {
		c := &Container{Network: test.network, options: &Options{Etc: test.style, Hostname: "box", Domain: test.domain, Hosts: test.hosts}}
		got, err := c.hosts()
		for _, line := range test.want {
			if err != nil || !strings.Contains("\n"+got, "\n"+line+"\n") {
				t.Errorf("%s: %q, %v, want the line %q", test.name, got, err, line)
			}
		}
		if test.not != "" && strings.Contains(got, test.not) {
			t.Errorf("%s: %q has %q", test.name, got, test.not)
		}
	}
	whole := &Container{options: &Options{Hostname: "box.d.test"}}
	if got := whole.ownNames(); got != "box.d.test box" {
		t.Errorf("a host name with a domain is %q", got)
	}
	c := &Container{options: &Options{Etc: EtcOfRun, Hosts: []Host{{"gw", netip.Addr{}}}}}
	if _, err := c.hosts(); err == nil || !strings.Contains(err.Error(), "--add-host gw:host-gateway") {
		t.Errorf("host-gateway without a gateway: %v", err)
	}
}

// TestSetNetwork: what a container is connected to later is in its hosts and its resolv.conf, but for what it has changed itself.
func TestSetNetwork(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr
	with := func(dns string, addresses ...netip.Addr) Network {
		return Network{Network: runtime.Network{Mode: "default"}, DNS: []string{dns}, Addresses: addresses, Options: []string{"edns0"}}
	}
	c := &Container{Network: with("192.0.2.53", ip("10.1.2.3"), ip("10.5.0.3")), options: &Options{Etc: EtcOfRun, Hostname: "box"}}
	read := map[string]func() string{}
	for path, make := range map[string]func() (string, error){
		hostsPath: c.hosts, resolvPath: func() (string, error) { return resolvConf(c.Network) },
	} {
		text, err := make()
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c.etc = append(c.etc, &etcFile{path: path, text: text, file: f})
		read[path] = func() string { b, _ := os.ReadFile(name); return string(b) }
	}
	set := func(n Network) {
		t.Helper()
		if err := c.SetNetwork(n); err != nil {
			t.Error(err)
		}
	}
	set(with("127.0.0.11", ip("10.1.2.3"), ip("10.9.0.2")))
	if got := read[resolvPath](); !strings.HasSuffix(got, "options edns0\noptions ndots:0\nnameserver 127.0.0.11\n") {
		t.Errorf("resolv.conf: %q", got)
	}
	if got := read[hostsPath](); !strings.HasSuffix(got, "10.1.2.3\tbox\n10.9.0.2\tbox\n") || strings.Contains(got, "10.5") {
		t.Errorf("hosts: %q", got)
	}
	for path, own := range map[string]string{hostsPath: "1.2.3.4\town\n10.9.0.2\tbox\n10.1.2.3\tbox", resolvPath: "nameserver 192.0.2.9\n"} {
		i := slices.IndexFunc(c.etc, func(f *etcFile) bool { return f.path == path })
		if err := os.WriteFile(c.etc[i].file.Name(), []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(with("192.0.2.53", ip("10.1.2.3"), ip("10.7.0.2")))
	if got := read[resolvPath](); got != "nameserver 192.0.2.9\n" {
		t.Errorf("resolv.conf of its own: %q", got)
	}
	if got, want := read[hostsPath](), "1.2.3.4\town\n10.1.2.3\tbox\n10.7.0.2\tbox\n"; got != want {
		t.Errorf("hosts with a line of its own: %q, want %q", got, want)
	}
}
