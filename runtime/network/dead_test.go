package network

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/forge-build/forge/runtime"
)

// mortal starts a process that has a network with a port, and returns what kills it.
func mortal(t *testing.T, s *Store, port string) (kill func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", s.account.root, port)
	cmd.Env = append(os.Environ(), "NETWORK_TEST_HELPER=die")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(io.LimitReader(out, 6)); string(b) != "ready\n" {
		t.Fatalf("%s, %v", b, err)
	}
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// TestDeadPorts: ports of who was killed, or failed to take them back, go with the next who looks, also if that one fails.
func TestDeadPorts(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n"})
	run(t, s, byDefault)
	run(t, s, Options{Networks: []Attachment{{Network: "n"}}})
	without := countElements(t)
	for what, look := range map[string]func() error{
		"a start that fails":          func() error { return second(s.Prepare(t.Context(), Options{Networks: []Attachment{{Network: "zz"}}})) },
		"removal of a network in use": func() error { return second(s.Remove(t.Context(), "n")) },
		"a sweep":                     func() error { return s.Sweep(t.Context()) },
		"a start without its port": func() error {
			return second(s.Prepare(t.Context(), Options{Networks: byDefault.Networks, Ports: ports(t, "203.0.113.1:80:80")}))
		},
	} {
		mortal(t, s, "8080:80")()
		if countElements(t) == without {
			t.Fatal("there are no ports to remove")
		}
		err := look()
		if got := countElements(t); got != without {
			t.Errorf("after %s (%v): %d bytes of elements, want %d", what, err, got, without)
		}
	}
	for what, fail := range map[string]func(b *Sandbox) error{
		"end":        func(b *Sandbox) error { return b.Close() },
		"disconnect": func(b *Sandbox) error { return b.Disconnect(t.Context(), DefaultName) },
	} {
		b := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")})
		bad := filepath.Join(s.account.dir("bad"), networkFile)
		if err := errors.Join(os.MkdirAll(filepath.Dir(bad), 0o700), os.WriteFile(bad, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := fail(b); err == nil {
			t.Errorf("%s without an account", what)
		}
		if err := os.RemoveAll(filepath.Dir(bad)); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if got := countElements(t); got != without {
			t.Errorf("after %s that failed: %d bytes of elements, want %d", what, got, without)
		}
	}
}

// TestPeerOfDead: who goes on sending to a UDP port that was a container's does not reach the next one with its address.
func TestPeerOfDead(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	s := here(t)
	run(t, s, byDefault)
	here, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var peers []net.Conn
	dial := func() error {
		conn, err := net.Dial("udp", "198.51.100.2:5353")
		peers = append(peers, conn)
		return err
	}
	if err := errors.Join(dial(), runtime.InNetworkNamespace(space, dial)); err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		for _, p := range peers {
			p.Write([]byte(text)) // it may be told that nobody listened the last time
			p.Write([]byte(text))
		}
	}
	for _, how := range []string{"end", "kill"} {
		before, err := os.ReadFile(filepath.Join(s.account.dir(predefined(DefaultName).ID), lastFile))
		if err != nil {
			t.Fatal(err)
		}
		if how == "end" {
			b := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "5353:53/udp")})
			say("a")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		} else {
			kill := mortal(t, s, "5353:53/udp")
			say("a")
			kill()
		}
		if err := os.WriteFile(filepath.Join(s.account.dir(predefined(DefaultName).ID), lastFile), before, 0o600); err != nil {
			t.Fatal(err)
		}
		settled(t, func() bool { list, err := net.Interfaces(); return err == nil && len(list) <= len(here) }) // its own is gone
		next := run(t, s, byDefault)                                                                           // at the same address
		var conn net.PacketConn
		if err := runtime.InNetworkNamespace(next.Namespace, func() (err error) {
			conn, err = net.ListenPacket("udp", ":53")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		end, err := net.Dial("udp", next.Endpoints()[0].Address.Addr().String()+":53")
		if err != nil {
			t.Fatal(err)
		}
		for err = os.ErrDeadlineExceeded; errors.Is(err, os.ErrDeadlineExceeded); { // an interface that is just made may lose a packet
			end.Write([]byte("up"))
			conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, _, err = conn.ReadFrom(make([]byte, 100))
		}
		say("b")
		end.Write([]byte("end"))
		if got := untilEnd(t, conn); slices.Contains(got, "b") {
			t.Errorf("after %s, the next container at the address got %q", how, got)
		}
		if err := errors.Join(conn.Close(), end.Close(), next.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
