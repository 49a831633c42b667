package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
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

// TestInternal6: a container of an internal network without IPv6, who writes its frames itself, does not get out by IPv6 where this
// machine forwards that for others.
func TestInternal6(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	addresses6(t, space)
	s := here(t)
	n := create(t, s, Config{Name: "in", Internal: true})
	create(t, s, Config{Name: "six", IPv6: true})
	shut := run(t, s, Options{Networks: []Attachment{{Network: "in"}}})
	six := run(t, s, Options{Networks: []Attachment{{Network: "six"}}})
	bridge, err := net.InterfaceByName(n.bridge())
	if err != nil {
		t.Fatal(err)
	}
	var world net.PacketConn
	if err := runtime.InNetworkNamespace(space, func() (err error) {
		world, err = net.ListenPacket("udp", "[2001:db8::2]:99")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	leak := append([]byte{0, 7, 0, 99, 0, 12, 0, 0}, "leak"...)
	for _, flush := range []bool{false, true} {
		if flush { // what somebody has flushed comes with the next container
			if err := transact(in6([]*request{deleteTable()})...); err != nil {
				t.Fatal(err)
			}
			run(t, s, Options{Networks: []Attachment{{Network: "in"}}})
		}
		send(t, six, world.LocalAddr().String(), "end") // from now on this machine knows where the world is
		untilEnd(t, world)
		sendFrame(t, shut, bridge.HardwareAddr, unix.IPPROTO_UDP, mustAddr("2001:db8:bad::2"), mustAddr("2001:db8::2"), leak)
		send(t, six, world.LocalAddr().String(), "end")
		if got := untilEnd(t, world); len(got) > 0 {
			t.Errorf("out of an internal network came %q", got)
		}
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
