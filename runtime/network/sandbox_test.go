package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// interfaces are those of a namespace, but for the loopback one.
func interfaces(t *testing.T, space *os.File) (list []string) {
	t.Helper()
	err := runtime.InNetworkNamespace(space, func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			if i.Flags&net.FlagLoopback != 0 {
				continue
			}
			addrs, _ := i.Addrs()
			for _, a := range addrs {
				if p := netip.MustParsePrefix(a.String()); p.Addr().Is4() {
					list = append(list, fmt.Sprintf("%s %s %s %d", i.Name, p, i.HardwareAddr, i.MTU))
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNetworks: a container in several networks, which others cannot cross, and which come and go while it runs.
func TestNetworks(t *testing.T) {
	if !inside(t) {
		return
	}
	server := outside(t)
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.do(setDefaultRoute(mustAddr("198.51.100.1")), mtuOf(t, "uplink", 1400)); err != nil {
		t.Fatal(err)
	}
	s := here(t)
	create(t, s, Config{Name: "in", Internal: true})
	create(t, s, Config{Name: "a"})
	create(t, s, Config{Name: "b"})
	one := run(t, s, Options{
		Container: "one", Name: "one", Networks: []Attachment{{Network: "in"}, {Network: "a", Address: mustAddr("10.210.1.77"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}}},
		Ports: ports(t, "8080:80"),
	})
	serve(t, one.Namespace, "tcp", ":80", "one")
	if got, want := fmt.Sprint(interfaces(t, one.Namespace)), "[eth0 10.210.0.2/24 02:42:0a:d2:00:02 1400 eth1 10.210.1.77/24 02:00:00:00:00:07 1400]"; got != want {
		t.Errorf("interfaces %s, want %s", got, want)
	}
	if seen, err := call(one.Namespace, server); err != nil || seen != "198.51.100.2" {
		t.Errorf("seen from outside as %q, %v", seen, err)
	}
	shut := run(t, s, Options{Networks: []Attachment{{Network: "in"}}})
	if seen, err := call(shut.Namespace, server); err == nil {
		t.Errorf("got out of an internal network, seen as %q", seen)
	}
	wantReach(t, "within an internal network", shut.Namespace, "tcp", "10.210.0.2:80", "one")
	two := run(t, s, Options{Networks: []Attachment{{Network: "b"}}})
	for _, at := range []string{"10.210.1.77:80", "10.210.0.2:80"} {
		wantDeaf(t, "another network", two.Namespace, at)
	}

	e, err := one.Connect(t.Context(), Attachment{Network: "b"})
	if err != nil || e.Interface != "eth2" {
		t.Fatalf("connect: %v, %v", e, err)
	}
	wantReach(t, "connected", two.Namespace, "tcp", e.Address.Addr().String()+":80", "one")
	if _, err := one.Connect(t.Context(), Attachment{Network: "b"}); fmt.Sprint(err) != "endpoint with name one already exists in network b" {
		t.Errorf("connect again: %v", err)
	}
	// The way out goes: the next one is it, for ports too.
	if err := one.Disconnect(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := one.Disconnect(t.Context(), "a"); fmt.Sprint(err) != "container one is not connected to network a" {
		t.Errorf("disconnect again: %v", err)
	}
	wantReach(t, "by the other network", nil, "tcp", "127.0.0.1:8080", "one")
	if seen, err := call(one.Namespace, server); err != nil || seen != "198.51.100.2" {
		t.Errorf("seen from outside as %q, %v", seen, err)
	}
	if err := one.Disconnect(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	wantDeaf(t, "into an internal network", nil, "127.0.0.1:8080")
	if e, err = one.Connect(t.Context(), Attachment{Network: "bridge"}); err != nil || e.Interface != "eth1" {
		t.Fatalf("connect: %v, %v", e, err)
	}
	wantReach(t, "by the default network", nil, "tcp", "127.0.0.1:8080", "one")
	if got := fmt.Sprint(one.Endpoints()[1].Bindings); got != "[{0.0.0.0 8080 80 tcp} {:: 8080 80 tcp}]" {
		t.Errorf("bindings %s", got)
	}
}

// mtuOf sets the size of packets of an interface.
func mtuOf(t *testing.T, name string, mtu uint32) *request {
	t.Helper()
	index, err := interfaceIndex(name)
	if err != nil {
		t.Fatal(err)
	}
	return newRequest("mtu", unix.RTM_NEWLINK, ack, linkHeader(index, 0, 0)...).uint32(unix.IFLA_MTU, mtu)
}

// TestAddresses: what is wanted, what is taken, and what is too much.
func TestAddresses(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	n := create(t, s, Config{Name: "n", Subnet: netip.MustParsePrefix("10.1.1.0/29")})
	for i := 2; i < 7; i++ {
		b := run(t, s, Options{Networks: []Attachment{{Network: "n"}}})
		if got, want := b.Endpoints()[0].Address.String(), fmt.Sprintf("10.1.1.%d/29", i); got != want {
			t.Errorf("address %s, want %s", got, want)
		}
	}
	for _, test := range []struct {
		a    Attachment
		want string
	}{
		{Attachment{Network: "n"}, "no available IPv4 addresses on this network's address pools: n (" + n.ID + ")"},
		{Attachment{Network: "n", Address: mustAddr("10.1.1.3")}, "Address already in use: 10.1.1.3"},
		{Attachment{Network: "n", Address: mustAddr("10.1.1.1")}, "Address already in use: 10.1.1.1"},
		{Attachment{Network: "n", Address: mustAddr("10.1.1.7")}, "no configured subnet or ip-range contain the IP address 10.1.1.7"},
		{Attachment{Network: "n", Address: mustAddr("10.9.9.9")}, "no configured subnet or ip-range contain the IP address 10.9.9.9"},
		{Attachment{Network: "bridge", Address: mustAddr("10.209.0.9")}, "user specified IP address is supported on user defined networks only"},
		{Attachment{Network: "bridge", Aliases: []string{"x"}}, "network-scoped alias is supported only for containers in user defined networks"},
		{Attachment{Network: "host"}, "container cannot be connected to network host beside others"},
		{Attachment{Network: "zz"}, "network zz not found"},
	} {
		if b, err := s.Prepare(t.Context(), Options{Networks: []Attachment{test.a}}); fmt.Sprint(err) != test.want {
			t.Errorf("%+v: %v, want %s", test.a, err, test.want)
			if err == nil {
				b.Close()
			}
		}
	}
}

// state is all that networks leave on a machine: interfaces, what nftables counts, files, and descriptors.
func state(t *testing.T, s *Store) string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, l := range links {
		list = append(list, l.Name)
	}
	slices.Sort(list)
	filepath.WalkDir(filepath.Dir(s.account.root), func(path string, _ os.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return "\n" + fmt.Sprintf("%s\ndescriptors: %d\nelements: %d", strings.Join(list, "\n"), len(fds), countElements(t))
}

// countElements counts what is in the sets of the table.
func countElements(t *testing.T) (n int) {
	t.Helper()
	for _, s := range sets() {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			t.Fatal(err)
		}
		r := nft("", unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, unix.NFTA_SET_ELEM_LIST_TABLE).str(unix.NFTA_SET_ELEM_LIST_SET, s.name)
		copy(r.buf, []byte{byte(len(r.buf)), 0, 0, 0})
		if err := unix.Sendto(fd, r.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
		for buf, done := make([]byte, 1<<16), false; !done; {
			size, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				t.Fatal(err)
			}
			messages, err := syscall.ParseNetlinkMessage(buf[:size])
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				done = m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR
				if !done {
					n += len(m.Data)
				}
			}
		}
		unix.Close(fd)
	}
	return n
}

// TestLeaks: many rounds leave nothing.
func TestLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "a"})
	create(t, s, Config{Name: "b"})
	round := func() {
		b, err := s.Prepare(t.Context(), Options{
			Container: "c", Name: "c", Networks: []Attachment{{Network: "bridge"}, {Network: "a", Aliases: []string{"x"}}}, Ports: ports(t, "8080:80", "53/udp"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.NameServer(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Connect(t.Context(), Attachment{Network: "b"}); err != nil {
			t.Fatal(err)
		}
		if err := b.Rename(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		if err := b.Disconnect(t.Context(), "bridge"); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	round()
	settled(t, func() bool { return !strings.Contains(state(t, s), "\nfg0a") })
	before := state(t, s)
	for range 50 {
		round()
	}
	settled(t, func() bool { return state(t, s) == before })
	if after := state(t, s); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := s.Prune(t.Context(), func(*Network) bool { return true }); err != nil {
		t.Error(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if tableThere(nfProtoIPv4) || exists(bridgeName) {
		t.Error("rules or a bridge are left")
	}
}

// TestKilledWithPorts: ports and addresses of who was killed are free for the next, and lead nowhere.
func TestKilledWithPorts(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	run(t, s, byDefault)
	kill := mortal(t, s, "8080:80")
	with := countElements(t)
	if _, err := s.Prepare(t.Context(), Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")}); err == nil {
		t.Error("a port of the living is free")
	}
	kill()
	b := run(t, s, Options{Networks: byDefault.Networks})
	if got := countElements(t); got >= with {
		t.Errorf("elements of the dead are left: %d bytes, with them %d", got, with)
	}
	if list, err := s.Endpoints(predefined(DefaultName)); err != nil || len(list) != 2 || list[1].ID != b.Endpoints()[0].ID {
		t.Errorf("endpoints %v, %v", list, err)
	}
	c := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")})
	serve(t, c.Namespace, "tcp", ":80", "c")
	wantReach(t, "the next", nil, "tcp", "127.0.0.1:8080", "c")
}

// TestCrowd: many at once, some in the same network for the first time, have addresses and ports of their own.
func TestCrowd(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n"})
	var all []*Sandbox
	var mu sync.Mutex
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() {
			b, err := Open(s.records, s.account.root).Prepare(context.Background(), Options{
				Networks: []Attachment{{Network: "n"}, {Network: "bridge"}}, Ports: []Port{{Container: 80, Protocol: "tcp"}},
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, b)
		})
	}
	work.Wait()
	seen := map[string]bool{}
	for i, b := range all {
		serve(t, b.Namespace, "tcp", ":80", fmt.Sprint(i))
		wantReach(t, "one of many", nil, "tcp", fmt.Sprintf("127.0.0.1:%d", b.Bindings()[0].Port), fmt.Sprint(i))
		for _, e := range b.Endpoints() {
			if seen[e.Address.String()] {
				t.Errorf("%s twice", e.Address)
			}
			seen[e.Address.String()] = true
		}
	}
	for _, b := range all {
		work.Go(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if u, err := s.account.usage(); err != nil || len(u.endpoints) > 0 {
		t.Errorf("left: %v, %v", u.endpoints, err)
	}
}

// TestKilledBeforeRules: who dies after the bridge was made, and before there are rules for it, leaves them to the next.
func TestKilledBeforeRules(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	if !inside(t) {
		return
	}
	server := outside(t)
	s := here(t)
	run(t, s, Options{Networks: byDefault.Networks}) // so that there is a table
	create(t, s, Config{Name: "n"})
	lock, err := s.account.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.account.sweep()
	if err != nil {
		t.Fatal(err)
	}
	dead := &Sandbox{store: s}
	if _, _, err := dead.lease(u, Attachment{Network: "n"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dead.leases[0].file.Close(), lock.Close()); err != nil {
		t.Fatal(err)
	}
	b := run(t, s, Options{Networks: []Attachment{{Network: "n"}}})
	if seen, err := call(b.Namespace, server); err != nil || seen != "198.51.100.2" {
		t.Errorf("seen from outside as %q, %v", seen, err)
	}
}
