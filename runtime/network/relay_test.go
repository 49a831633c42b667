package network

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/forge-build/forge/runtime"
)

// TestRelay: a container reaches a name server on this machine's loopback interface, by UDP and by TCP.
func TestRelay(t *testing.T) {
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			udp.WriteTo(append([]byte("udp "), buf[:n]...), from)
		}
	}()
	server := netip.MustParseAddrPort(udp.LocalAddr().String())
	tcp, err := net.Listen("tcp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 100)
			n, _ := conn.Read(buf)
			conn.Write(append([]byte("tcp "), buf[:n]...))
			conn.Close()
		}
	}()

	namespace, err := runtime.NewNetworkNamespace()
	if err != nil {
		t.Skip(err)
	}
	n := &Sandbox{Namespace: namespace, release: func() error { return nil }}
	deaf := netip.MustParseAddrPort("127.0.0.1:1")
	addr, err := n.Relay([]netip.AddrPort{deaf, server})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"udp", "tcp"} {
		var got []byte
		err := runtime.InNetworkNamespace(namespace, func() error {
			conn, err := net.Dial(kind, netip.AddrPortFrom(addr, 53).String())
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Write([]byte("question")); err != nil {
				return err
			}
			got = make([]byte, len("xxx question"))
			_, err = io.ReadFull(conn, got)
			return err
		})
		if err != nil || string(got) != kind+" question" {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
