package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// TestContainerIsNoRouter: this machine learns no way by IPv6 from a container that calls itself a router, be the bridge new, or one
// that somebody has set otherwise.
func TestContainerIsNoRouter(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "in", Internal: true})
	for range 2 {
		for _, name := range []string{DefaultName, "in"} {
			b := run(t, s, Options{Networks: []Attachment{{Network: name}}})
			advertise(t, b)
			n, err := s.Find(name)
			if err != nil {
				t.Fatal(err)
			}
			if hasWay6() {
				t.Errorf("network %s: this machine goes by a container to the world", name)
			}
			for _, setting := range []string{"accept_ra", "accept_redirects"} {
				file := "/proc/sys/net/ipv6/conf/" + n.bridge() + "/" + setting
				if value, err := os.ReadFile(file); err != nil || string(value) != "0\n" {
					t.Errorf("%s: %q, %v", file, value, err)
				}
				if err := os.WriteFile(file, []byte("2"), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// advertise sends a router's advertisement from a container, and something else, for which it waits.
func advertise(t *testing.T, b *Sandbox) {
	t.Helper()
	here, err := net.ListenPacket("udp", b.Endpoints()[0].Gateway.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	mac := b.Endpoints()[0].MAC
	message := slices.Concat(
		[]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}, // for 1800 seconds
		[]byte{3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, mustAddr("2001:db8:bad::").AsSlice(), []byte{1, 1}, mac)
	sendFrame(t, b, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, unix.IPPROTO_ICMPV6, mustAddr("fe80::bad:1"), mustAddr("ff02::1"), message)
	send(t, b, here.LocalAddr().String(), "end")
	untilEnd(t, here)
}

// leak is a UDP packet for port 99.
func leak() []byte { return append([]byte{0, 7, 0, 99, 0, 12, 0, 0}, "leak"...) }

// listen6 listens at an address of a namespace, or of this machine.
func listen6(t *testing.T, space *os.File, address string) (conn net.PacketConn) {
	t.Helper()
	listen := func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	}
	in := func() error { return runtime.InNetworkNamespace(space, listen) }
	if space == nil {
		in = listen
	}
	if err := in(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// wantNoWay6 wants nothing of what a container writes to the bridge to come to where others listen, whom one with IPv6 reaches.
func wantNoWay6(t *testing.T, b, six *Sandbox, listeners ...net.PacketConn) {
	t.Helper()
	bridge, err := net.InterfaceByName(b.leases[0].network.bridge())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listeners {
		to := netip.MustParseAddrPort(l.LocalAddr().String()).Addr()
		send(t, six, l.LocalAddr().String(), "end") // from now on this machine knows where that is
		untilEnd(t, l)
		sendFrame(t, b, bridge.HardwareAddr, unix.IPPROTO_UDP, mustAddr("2001:db8:bad::2"), to, leak())
		send(t, six, l.LocalAddr().String(), "end")
		if got := untilEnd(t, l); len(got) > 0 {
			t.Errorf("from network %s to %s came %q", b.leases[0].Network, to, got)
		}
	}
}

// TestNoIPv6: a container of a network without IPv6, who writes its frames itself, reaches neither this machine nor, where that forwards
// for others, the world by IPv6, be the bridge new, or one that somebody has set otherwise.
func TestNoIPv6(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	s := here(t)
	create(t, s, Config{Name: "four"})
	create(t, s, Config{Name: "six", IPv6: true})
	start := func(names ...string) (list []*Sandbox) {
		for _, name := range names {
			list = append(list, run(t, s, Options{Networks: []Attachment{{Network: name}}}))
		}
		return list
	}
	without := start("four", DefaultName) // before there is a way to the world, so that the default network has no IPv6
	create(t, s, Config{Name: "in", Internal: true})
	in := start("in")[0]
	addresses6(t, space)
	six := run(t, s, Options{Networks: []Attachment{{Network: "six"}}})
	listeners := []net.PacketConn{listen6(t, nil, "[2001:db8::1]:99"), listen6(t, space, "[2001:db8::2]:99")}
	for _, again := range []func(){
		func() {},
		func() { without, in = start("four", DefaultName), start("in")[0] },
		func() {
			if err := s.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		again()
		for _, b := range append(without, in) {
			wantNoWay6(t, b, six, listeners...)
		}
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0); err != nil { // of each interface
			t.Fatal(err)
		}
		for _, b := range append(without, in) { // by the rules
			wantNoWay6(t, b, six, listeners...)
		}
	}
}

// TestInternal6: a container of an internal network without IPv6, who writes its frames itself, does not get out by IPv6 where this
// machine forwards that for others, also where nothing of /proc/sys can be set.
func TestInternal6(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	addresses6(t, space)
	s := here(t)
	create(t, s, Config{Name: "in", Internal: true})
	create(t, s, Config{Name: "six", IPv6: true})
	six := run(t, s, Options{Networks: []Attachment{{Network: "six"}}})
	for _, m := range []struct {
		at    string
		flags uintptr
	}{{"/", unix.MS_REC | unix.MS_PRIVATE}, {"/proc/sys", unix.MS_BIND}, {"/proc/sys", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY}} {
		if err := unix.Mount(m.at, m.at, "", m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	shut := run(t, s, Options{Networks: []Attachment{{Network: "in"}}})
	world := listen6(t, space, "[2001:db8::2]:99")
	for _, flush := range []bool{false, true} {
		if flush { // what somebody has flushed comes with the next container
			if err := transact(in6([]*request{deleteTable()})...); err != nil {
				t.Fatal(err)
			}
			run(t, s, Options{Networks: []Attachment{{Network: "in"}}})
		}
		wantNoWay6(t, shut, six, world)
	}
}

// TestFilters: that a kernel has no nftables for IPv6 is told from what it says of a family that no kernel has.
func TestFilters(t *testing.T) {
	if !inside(t) {
		return
	}
	const none = 4 // NFPROTO of no protocol
	if err := filters(nfProtoIPv6); err != nil {
		t.Error(err)
	}
	if err := filters(none); err == nil || !strings.Contains(err.Error(), "CONFIG_NF_TABLES_IPV6") {
		t.Errorf("a family that there is not: %v", err)
	}
}

// sendFrame sends an IPv6 packet that a container writes itself.
func sendFrame(t *testing.T, b *Sandbox, to net.HardwareAddr, protocol byte, source, destination netip.Addr, message []byte) {
	t.Helper()
	at := 2 // of the sum
	if protocol == unix.IPPROTO_UDP {
		at = 6
	}
	addresses := append(source.AsSlice(), destination.AsSlice()...)
	var sum uint32
	for pair := range slices.Chunk(slices.Concat(addresses, []byte{0, byte(len(message)), 0, protocol}, message), 2) {
		sum += uint32(binary.BigEndian.Uint16(pair))
	}
	binary.BigEndian.PutUint16(message[at:], ^uint16(sum+sum>>16))
	header := slices.Concat(to, b.Endpoints()[0].MAC, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), protocol, 255})
	err := runtime.InNetworkNamespace(b.Namespace, func() error {
		index, err := interfaceIndex(b.Endpoints()[0].Interface)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, slices.Concat(header, addresses, message), 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
	})
	binary.BigEndian.PutUint16(message[at:], 0)
	if err != nil {
		t.Fatal(err)
	}
}

// send sends a text from a container by UDP.
func send(t *testing.T, b *Sandbox, to, text string) {
	t.Helper()
	if err := runtime.InNetworkNamespace(b.Namespace, func() error {
		conn, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte(text))
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// untilEnd is what comes before "end".
func untilEnd(t *testing.T, conn net.PacketConn) (list []string) {
	t.Helper()
	buf := make([]byte, 100)
	for conn.SetReadDeadline(time.Now().Add(time.Minute)); ; {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "end" {
			return list
		}
		list = append(list, string(buf[:n]))
	}
}

// TestWithoutIPv6IsDropped: with a network that is removed go its elements in the table of IPv6, and those of others stay.
func TestWithoutIPv6IsDropped(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	run(t, s, byDefault)
	n := create(t, s, Config{Name: "four"})
	b, err := s.Prepare(t.Context(), Options{Networks: []Attachment{{Network: "four"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	there := func(n *Network) bool { // what is not there cannot be deleted
		return transact(in6(deleteElements(setWithout, []element{{key: interfaceName(n.bridge())}}))...) == nil
	}
	if _, err := s.Remove(t.Context(), "four"); err != nil {
		t.Fatal(err)
	}
	if there(n) {
		t.Error("the table of IPv6 has a network that was removed")
	}
	def, err := s.Find(DefaultName)
	if err != nil || !there(def) {
		t.Errorf("the table of IPv6 does not have the default network (%v)", err)
	}
	if err := s.account.enter(def); err != nil { // as a forge did that did not know Rules6
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil || !there(def) {
		t.Errorf("the table of IPv6 does not have the default network after a reload (%v)", err)
	}
}
