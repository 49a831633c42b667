package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// addresses6 gives this machine and the neighbour global addresses, and this machine a way to everywhere.
func addresses6(t *testing.T, space *os.File) {
	t.Helper()
	give := func(a string, ways ...*request) func() error {
		return func() error {
			c, err := dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.close()
			for _, name := range []string{"uplink", "eth0"} {
				if index, err := interfaceIndex(name); err == nil {
					return c.do(append([]*request{addAddress(index, netip.MustParsePrefix(a))}, ways...)...)
				}
			}
			return fmt.Errorf("there is no interface for %s", a)
		}
	}
	if err := give("2001:db8::1/64", setDefaultRoute(mustAddr("2001:db8::2")))(); err != nil {
		t.Fatal(err)
	}
	if err := runtime.InNetworkNamespace(space, give("2001:db8::2/64")); err != nil {
		t.Fatal(err)
	}
}

// TestIPv6: a network with IPv6 gives addresses, names and a way out by it, and keeps others out; so does the default one where
// this machine has a way to the world.
func TestIPv6(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	s := here(t)
	four := run(t, s, byDefault)
	if e := four.Endpoints()[0]; e.Address6.IsValid() {
		t.Errorf("on a machine without IPv6: %v", e.Address6)
	}
	wantOwn6(t, four, false)
	if err := four.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	addresses6(t, space)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/uplink/accept_ra", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	serve(t, space, "tcp", "[2001:db8::2]:80", "world")

	create(t, s, Config{Name: "four"})
	four = run(t, s, Options{Networks: []Attachment{{Network: "four"}}}) // before this machine forwards IPv6
	create(t, s, Config{Name: "six", Range6: Range6{Subnet6: netip.MustParsePrefix("fd00:5::/64")}})
	create(t, s, Config{Name: "other", IPv6: true})
	create(t, s, Config{Name: "in", Range6: Range6{Subnet6: netip.MustParsePrefix("fd00:7::/112")}, Internal: true})
	one := run(t, s, Options{Container: "one", Name: "one", Networks: []Attachment{{Network: "in"}, {Network: "six"}}})
	two := run(t, s, Options{Container: "two", Name: "two", Networks: []Attachment{{Network: "six", IPv6: mustAddr("fd00:5::4")}}})
	three := run(t, s, Options{Container: "three", Name: "three", Networks: []Attachment{{Network: "six"}}}) // whose number is taken
	far := run(t, s, Options{Container: "far", Name: "far", Networks: []Attachment{{Network: "other"}}})
	shut := run(t, s, Options{Container: "shut", Name: "shut", Networks: []Attachment{{Network: "in"}}})
	bridged := run(t, s, byDefault)
	for _, test := range []struct {
		got  Endpoint
		want string
	}{
		{one.Endpoints()[0], "fd00:7::2/112 fd00:7::1"},
		{one.Endpoints()[1], "fd00:5::2/64 fd00:5::1"},
		{two.Endpoints()[0], "fd00:5::4/64 fd00:5::1"},
		{three.Endpoints()[0], "fd00:5::5/64 fd00:5::1"},
		{bridged.Endpoints()[0], default6().Subnet6.Addr().Next().Next().String() + "/64 " + default6().Gateway6.String()},
	} {
		if got := fmt.Sprint(test.got.Address6, " ", test.got.Gateway6); got != test.want {
			t.Errorf("%s in %s: %s, want %s", test.got.Name, test.got.Network, got, test.want)
		}
	}
	wantOwn6(t, bridged, true)
	serve(t, one.Namespace, "tcp", ":80", "one")
	for _, b := range []*Sandbox{one, two, far, bridged} {
		if name, seen, err := reach(b.Namespace, "tcp", "[2001:db8::2]:80"); err != nil || name != "world" || seen != "2001:db8::1" {
			t.Errorf("%s to the world: %q, %v, seen as %s", b.name, name, err, seen)
		}
	}
	wantDeaf(t, "out of an internal network", shut.Namespace, "[2001:db8::2]:80")
	wantReach(t, "within an internal network", shut.Namespace, "tcp", "[fd00:7::2]:80", "one")
	wantReach(t, "a neighbour", two.Namespace, "tcp", "[fd00:5::2]:80", "one")
	wantReach(t, "from this machine", nil, "tcp", "[fd00:5::2]:80", "one")
	wantDeaf(t, "another network", far.Namespace, "[fd00:5::2]:80")
	wantDeaf(t, "the default network", bridged.Namespace, "[fd00:5::2]:80")
	if err := route(space, mustAddr("2001:db8::1")); err != nil {
		t.Fatal(err)
	}
	wantDeaf(t, "from the world", space, "[fd00:5::2]:80")

	if _, err := two.NameServer(nil); err != nil {
		t.Fatal(err)
	}
	z := &zone{sandbox: two}
	if list, _ := z.Addresses("one"); !slices.Contains(list, mustAddr("fd00:5::2")) || len(list) != 2 {
		t.Errorf("addresses of a name: %v", list)
	}
	if name, _ := z.Name(mustAddr("fd00:5::2")); name != "one.six" {
		t.Errorf("name of an address: %q", name)
	}
	for ip, want := range map[string]string{"fd00:5::2": "Address already in use: fd00:5::2", "fd00:6::2": "no configured subnet or ip-range contain the IP address fd00:6::2"} {
		if _, err := far.Connect(t.Context(), Attachment{Network: "six", IPv6: mustAddr(ip)}); fmt.Sprint(err) != want {
			t.Errorf("%s: %v", ip, err)
		}
	}

	// A network that comes and goes takes the way along; a table that was flushed comes again.
	if err := one.Disconnect(t.Context(), "six"); err != nil {
		t.Fatal(err)
	}
	wantDeaf(t, "after the network was left", one.Namespace, "[2001:db8::2]:80")
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Logf("nft: %v %s", err, out) // not everywhere
		if err := transact(withoutTables()...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := one.Connect(t.Context(), Attachment{Network: "six"}); err != nil {
		t.Fatal(err)
	}
	wantReach(t, "connected again", one.Namespace, "tcp", "[2001:db8::2]:80", "world")
	if b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/uplink/accept_ra"); string(b) != "2\n" {
		t.Errorf("accept_ra of an interface that learns its routes: %q", b)
	}
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && string(b) == "2\n" && !strings.Contains(f, "/uplink/") && !strings.Contains(f, "/uplink0/") && !strings.Contains(f, "/lo/") {
			t.Errorf("%s: %q", f, b)
		}
	}

	for _, b := range []*Sandbox{four, one, two, three, far, shut, bridged} {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	for _, family := range []byte{nfProtoIPv4, nfProtoIPv6} {
		if tableThere(family) {
			t.Errorf("the table of family %d is left", family)
		}
	}
}

func TestSubnets6(t *testing.T) {
	t.Parallel()
	other := []*Network{{Range6: Range6{Subnet6: netip.MustParsePrefix("fd00:9::/48")}}}
	for _, test := range []struct{ subnet, gateway, want string }{
		{"fd00:5::/64", "", "fd00:5::/64 fd00:5::1"},
		{"fd00:5::/64", "fd00:5::99", "fd00:5::/64 fd00:5::99"},
		{"fd00:5::1/64", "", "invalid subnet fd00:5::1/64: it should be fd00:5::/64"},
		{"fd00:5::/120", "", "invalid subnet fd00:5::/120: it must be"},
		{"fe80::/64", "", "invalid subnet fe80::/64: it must be"},
		{"ff05::/64", "", "invalid subnet ff05::/64: it must be"},
		{"fd00:9:0:7::/64", "", "invalid pool request: Pool overlaps with other one on this address space: fd00:9:0:7::/64 with fd00:9::/48"},
		{"fd00:5::/64", "fd00:6::1", "invalid gateway fd00:6::1: it is no address of a machine in fd00:5::/64"},
		{"fd00:5::/64", "fd00:5::", "invalid gateway fd00:5::: it is no address"},
		{"", "fd00:5::1", "every ip-range or gateway must have a corresponding subnet"},
	} {
		c := Config{}
		if test.subnet != "" {
			c.Subnet6 = netip.MustParsePrefix(test.subnet)
		}
		if test.gateway != "" {
			c.Gateway6 = mustAddr(test.gateway)
		}
		r, err := c.addresses6("id", other)
		got := fmt.Sprint(r.Subnet6, " ", r.Gateway6)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s %s: %s, want %s", test.subnet, test.gateway, got, test.want)
		}
	}
	if r, err := (&Config{IPv6: true}).addresses6("id", other); err != nil || r.Subnet6.Bits() != 64 || !r.Subnet6.Addr().IsPrivate() || r.Gateway6 != r.Subnet6.Addr().Next() {
		t.Errorf("a subnet of its own: %v, %v", r, err)
	}
	if r, err := (&Config{}).addresses6("id", other); err != nil || r.Subnet6.IsValid() {
		t.Errorf("without IPv6: %v, %v", r, err)
	}
}

// wantOwn6 wants the container to have an IPv6 address of its own making, or none, and its interface on this machine to have none.
func wantOwn6(t *testing.T, b *Sandbox, want bool) {
	t.Helper()
	own6 := func(name string, has *bool) func() error {
		return func() error {
			c, err := dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.close()
			i, err := net.InterfaceByName(name)
			for up := false; err == nil && !up; { // which is when it would make itself one
				up, err = c.isUp(i.Index)
			}
			if err != nil {
				return err
			}
			list, err := i.Addrs()
			*has = slices.ContainsFunc(list, func(a net.Addr) bool {
				p, err := netip.ParsePrefix(a.String())
				return err == nil && p.Addr().IsLinkLocalUnicast() && p.Addr().Is6()
			})
			return err
		}
	}
	var inner, outer bool
	if err := errors.Join(runtime.InNetworkNamespace(b.Namespace, own6("eth0", &inner)), own6(b.leases[0].outer, &outer)()); err != nil {
		t.Fatal(err)
	}
	if inner != want || outer {
		t.Errorf("IPv6 address of the container's own making: %v, want %v; of its interface here: %v, want none", inner, want, outer)
	}
}

// TestNoTableOfIPv6: a kernel that refuses the table of IPv6 has the networks that can do without.
func TestNoTableOfIPv6(t *testing.T) {
	t.Parallel()
	refused, none, broken := errors.New("refused"), errors.New("no nftables for IPv6"), errors.New("broken")
	for _, test := range []struct {
		what      string
		six       bool
		fails     error
		why, want error
		rules6    bool
		asked     int
	}{
		{"takes all", false, nil, none, nil, true, 1},
		{"refuses the table", false, refused, none, nil, false, 2},
		{"refuses the table that a network needs", true, refused, none, none, false, 1},
		{"refuses something else", false, broken, nil, broken, true, 1},
	} {
		n := &Network{ID: strings.Repeat("a", 64), Subnet: netip.MustParsePrefix("10.1.1.0/24"), Rules6: true}
		if test.six {
			n.Subnet6 = netip.MustParsePrefix("fd00:5::/64")
		}
		asked := 0
		u := &usage{networks: []*Network{n}}
		err := u.remake(func(list ...*request) error {
			asked++
			if slices.ContainsFunc(list, func(r *request) bool {
				return r.buf[unix.SizeofNlMsghdr] == nfProtoIPv6 && strings.Contains(r.what, "chain")
			}) {
				return test.fails
			}
			return nil
		}, func() error { return test.why })
		if !errors.Is(err, test.want) || n.Rules6 != test.rules6 || asked != test.asked {
			t.Errorf("a kernel that %s: %v after %d requests, and in the table: %v", test.what, err, asked, n.Rules6)
		}
	}
}
