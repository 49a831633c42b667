package container

import (
	"net/netip"
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
	bridged := Network{Network: runtime.Network{Mode: "default"}, Address: ip("10.1.2.3"), Gateway: ip("10.1.2.1")}
	for _, test := range []struct {
		name    string
		network Network
		style   EtcStyle
		hosts   []Host
		want    []string // lines
		not     string
	}{
		{"a build", bridged, EtcOfBuild, nil, []string{"127.0.0.1\tlocalhost box", "::1\tlocalhost ip6-localhost ip6-loopback"}, "10.1.2.3"},
		{"a run", bridged, EtcOfRun, nil, []string{"127.0.0.1\tlocalhost", "10.1.2.3\tbox"}, "localhost box"},
		{"a run alone", Network{Network: runtime.Network{Mode: "none"}}, EtcOfRun, nil, []string{"127.0.0.1\tlocalhost box"}, ""},
		{"more", bridged, EtcOfRun, []Host{{"a", ip("10.0.0.1")}, {"gw", netip.Addr{}}}, []string{"10.0.0.1\ta", "10.1.2.1\tgw"}, ""},
		{"the host's", Network{Network: runtime.Network{Mode: "host"}}, EtcOfRun, []Host{{"gw", netip.Addr{}}}, []string{"127.0.0.1\tgw"}, "\tbox"},
	} {
		c := &Container{Network: test.network, options: &Options{Etc: test.style, Hostname: "box", Hosts: test.hosts}}
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
	c := &Container{options: &Options{Etc: EtcOfRun, Hosts: []Host{{"gw", netip.Addr{}}}}}
	if _, err := c.hosts(); err == nil || !strings.Contains(err.Error(), "--add-host gw:host-gateway") {
		t.Errorf("host-gateway without a gateway: %v", err)
	}
}
