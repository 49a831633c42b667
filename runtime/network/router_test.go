package network

import (
	"encoding/binary"
	"net"
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
	mac := b.Endpoints()[0].MAC
	source, all := mustAddr("fe80::bad:1").AsSlice(), mustAddr("ff02::1").AsSlice()
	message := slices.Concat(
		[]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}, // for 1800 seconds
		[]byte{3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, mustAddr("2001:db8:bad::").AsSlice(), []byte{1, 1}, mac)
	var sum uint32
	for pair := range slices.Chunk(slices.Concat(source, all, []byte{0, byte(len(message)), 0, unix.IPPROTO_ICMPV6}, message), 2) {
		sum += uint32(binary.BigEndian.Uint16(pair))
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum+sum>>16))
	frame := slices.Concat([]byte{0x33, 0x33, 0, 0, 0, 1}, mac, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255}, source, all, message)
	here, err := net.ListenPacket("udp", b.Endpoints()[0].Gateway.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	err = runtime.InNetworkNamespace(b.Namespace, func() error {
		index, err := interfaceIndex(b.Endpoints()[0].Interface)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}); err != nil {
			return err
		}
		conn, err := net.Dial("udp", here.LocalAddr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
	if err == nil {
		err = here.SetDeadline(time.Now().Add(time.Minute))
	}
	if err == nil {
		_, _, err = here.ReadFrom(make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
}
