package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// here is a store whose account is used by nobody else, in a namespace with a loopback interface.
func here(t *testing.T) *Store {
	t.Helper()
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	lo, err := interfaceIndex("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.do(linkUp(lo)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return Open(filepath.Join(dir, "records"), filepath.Join(dir, "account"))
}

// run makes the network of a container, which the test closes.
func run(t *testing.T, s *Store, o Options) *Sandbox {
	t.Helper()
	b, err := s.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// ports reads values of -p.
func ports(t *testing.T, values ...string) (list []Port) {
	t.Helper()
	for _, v := range values {
		p, err := ParsePorts(v)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p...)
	}
	return list
}

// serve answers in a namespace: who connects is told a name and its own address.
func serve(t *testing.T, space *os.File, kind, at, name string) {
	t.Helper()
	err := runtime.InNetworkNamespace(space, func() error {
		if kind == "udp" {
			conn, err := net.ListenPacket("udp", at)
			if err != nil {
				return err
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				buf := make([]byte, 100)
				for {
					_, from, err := conn.ReadFrom(buf)
					if err != nil {
						return
					}
					conn.WriteTo([]byte(name+" "+from.String()), from)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, name, " ", conn.RemoteAddr())
				conn.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reach connects from a namespace, nil being that of the test, and returns the name of who answers and the address it sees.
func reach(space *os.File, kind, at string) (name, seen string, err error) {
	talk := func() error {
		conn, err := net.DialTimeout(kind, at, 2*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		buf := make([]byte, 100)
		n := 0
		if kind == "udp" {
			if _, err = conn.Write([]byte("x")); err == nil {
				n, err = conn.Read(buf)
			}
		} else {
			n, err = io.ReadFull(conn, buf)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil
			}
		}
		name, seen, _ = strings.Cut(string(buf[:n]), " ")
		seen, _, _ = net.SplitHostPort(seen)
		return err
	}
	if space == nil {
		return name, seen, talk()
	}
	err = runtime.InNetworkNamespace(space, talk)
	return name, seen, err
}

// wantReach checks who answers.
func wantReach(t *testing.T, what string, space *os.File, kind, at, want string) {
	t.Helper()
	if got, _, err := reach(space, kind, at); err != nil || got != want {
		t.Errorf("%s: %s to %s: answered by %q, %v; want %q", what, kind, at, got, err, want)
	}
}

// wantDeaf checks that nobody answers. A connection that is dropped without a word is waited for only as long as others take
// many times over.
func wantDeaf(t *testing.T, what string, space *os.File, at string) {
	t.Helper()
	dial := func() error {
		conn, err := net.DialTimeout("tcp", at, 300*time.Millisecond)
		if err != nil {
			return nil
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		if answer, err := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("%s: %s was answered by %q, %v", what, at, answer, err)
		}
		return nil
	}
	if space == nil {
		dial()
		return
	}
	if err := runtime.InNetworkNamespace(space, dial); err != nil {
		t.Error(err)
	}
}

// TestPublish: a published port is reached from everywhere.
func TestPublish(t *testing.T) {
	if !inside(t) {
		return
	}
	outside(t)
	s := here(t)
	if _, err := s.Create(t.Context(), Config{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	a := run(t, s, Options{
		Container: strings.Repeat("a", 64), Networks: byDefault.Networks,
		Ports: ports(t, "8080:80", "127.0.0.1:8081:80", "198.51.100.2:8082:80", "5353:53/udp", "9000-9001:80-81"),
	})
	serve(t, a.Namespace, "tcp", ":80", "a80")
	serve(t, a.Namespace, "tcp", ":81", "a81")
	serve(t, a.Namespace, "udp", ":53", "a53")
	b := run(t, s, Options{Networks: byDefault.Networks})
	c := run(t, s, Options{Networks: []Attachment{{Network: "other"}}})
	bridge := a.Endpoints()[0].Gateway.String()
	for _, test := range []struct {
		what     string
		space    *os.File
		kind, at string
		want     string
	}{
		{"host", nil, "tcp", "198.51.100.2:8080", "a80"},
		{"host, bridge's address", nil, "tcp", bridge + ":8080", "a80"},
		{"localhost", nil, "tcp", "127.0.0.1:8080", "a80"},
		{"localhost, IPv6", nil, "tcp", "[::1]:8080", "a80"},
		{"range", nil, "tcp", "127.0.0.1:9001", "a81"},
		{"only localhost", nil, "tcp", "127.0.0.1:8081", "a80"},
		{"only one address", nil, "tcp", "198.51.100.2:8082", "a80"},
		{"udp", nil, "udp", "198.51.100.2:5353", "a53"},
		{"udp, localhost", nil, "udp", "127.0.0.1:5353", "a53"},
		{"udp, IPv6", nil, "udp", "[::1]:5353", "a53"},
		{"itself", a.Namespace, "tcp", "198.51.100.2:8080", "a80"},
		{"itself, bridge", a.Namespace, "tcp", bridge + ":8080", "a80"},
		{"same network", b.Namespace, "tcp", "198.51.100.2:8080", "a80"},
		{"same network, udp", b.Namespace, "udp", bridge + ":5353", "a53"},
		{"same network, bridge", b.Namespace, "tcp", bridge + ":8080", "a80"},
		{"same network, directly", b.Namespace, "tcp", a.Endpoints()[0].Address.Addr().String() + ":80", "a80"},
		{"other network", c.Namespace, "tcp", "198.51.100.2:8080", "a80"},
	} {
		wantReach(t, test.what, test.space, test.kind, test.at, test.want)
	}
	for _, test := range []struct {
		what  string
		space *os.File
		at    string
	}{
		{"an address that is not published", nil, "198.51.100.2:8081"},
		{"localhost of a port of another address", nil, "127.0.0.1:8082"},
		{"other network, directly", c.Namespace, a.Endpoints()[0].Address.Addr().String() + ":80"},
		{"localhost of this machine, from a container", b.Namespace, "127.0.0.1:8081"},
	} {
		wantDeaf(t, test.what, test.space, test.at)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	wantDeaf(t, "after the end", nil, "127.0.0.1:8080")
}

// TestPublishedOutside: neighbours of this machine reach what is published, as themselves, and nothing else.
func TestPublishedOutside(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	s := here(t)
	a := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80", "127.0.0.1:8081:80")})
	serve(t, a.Namespace, "tcp", ":80", "a")
	if name, seen, err := reach(space, "tcp", "198.51.100.2:8080"); err != nil || name != "a" || seen != "198.51.100.1" {
		t.Errorf("reached %q, %v, seen as %s", name, err, seen)
	}
	// It sends packets for addresses that are not its to this machine.
	if err := route(space, mustAddr("198.51.100.2")); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{a.Endpoints()[0].Address.Addr().String() + ":80", "127.0.0.1:8081", "198.51.100.2:8081"} {
		wantDeaf(t, "a neighbour, what is not published to it", space, at)
	}
}

// TestPortTaken: docker's words, and nothing stays behind.
func TestPortTaken(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	a := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")})
	l, err := net.Listen("tcp", "127.0.0.1:9090")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct{ port, want string }{
		{"8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated"},
		{"127.0.0.1:8080:80", "Bind for 127.0.0.1:8080 failed: port is already allocated"},
		{"[::]:8080:80", "Bind for :::8080 failed: port is already allocated"},
		{"9090:80", "Bind for 0.0.0.0:9090 failed: port is already allocated"},
		{"203.0.113.1:80:80", "Bind for 203.0.113.1:80 failed: cannot assign requested address"},
	} {
		_, err := s.Prepare(t.Context(), Options{Networks: byDefault.Networks, Ports: ports(t, test.port)})
		if pe := new(*PortError); !errors.As(err, pe) || err.Error() != test.want {
			t.Errorf("-p %s: %v, want %s", test.port, err, test.want)
		}
	}
	if u, err := s.account.usage(); err != nil || len(u.endpoints) != 1 {
		t.Errorf("endpoints %v, %v", u.endpoints, err)
	}
	b := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080-8082:80", "80", "8080:80/udp")})
	if got := fmt.Sprint(b.Bindings()[:2]); got != "[{0.0.0.0 8081 80 tcp} {:: 8081 80 tcp}]" {
		t.Errorf("of a range: %s", got)
	}
	if free := b.Bindings()[2:4]; free[0].Port == 0 || free[0].Port != free[1].Port {
		t.Errorf("any port: %v", free)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")})
}

// TestReload: rules that somebody has flushed are there again after the next start, or after Reload; and meanwhile the
// sockets of the ports do what the rules would.
func TestReload(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	a := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")})
	serve(t, a.Namespace, "tcp", ":80", "a")
	b := run(t, s, Options{Networks: byDefault.Networks})
	bridge := a.Endpoints()[0].Gateway.String()
	for _, repair := range []func() error{
		func() error { return s.Reload(t.Context()) },
		func() error { run(t, s, byDefault); return nil },
		func() error { run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "80")}); return nil },
	} {
		if err := transact(deleteTable()); err != nil {
			t.Fatal(err)
		}
		if _, seen, err := reach(nil, "tcp", "127.0.0.1:8080"); err != nil || seen != bridge {
			t.Errorf("without rules: %v, seen as %s", err, seen)
		}
		if err := repair(); err != nil {
			t.Fatal(err)
		}
		wantReach(t, "after a repair", nil, "tcp", "127.0.0.1:8080", "a")
		wantReach(t, "after a repair", b.Namespace, "tcp", bridge+":8080", "a")
		if !tableThere(nfProtoIPv4) {
			t.Error("no rules")
		}
	}
	// Rules that are flushed while one ends.
	if err := transact(deleteTable()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// TestManyPorts: a big range is one transaction.
func TestManyPorts(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	a := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "20000-20999:1000-1999")})
	serve(t, a.Namespace, "tcp", ":1999", "last")
	wantReach(t, "last", nil, "tcp", "127.0.0.1:20999", "last")
	if err := transact(deleteTable()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReach(t, "last, reloaded", nil, "tcp", "127.0.0.1:20999", "last")
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// TestFaithfulPeer: who goes on sending to a UDP port from the same socket reaches the container that has it now.
func TestFaithfulPeer(t *testing.T) {
	if !inside(t) {
		return
	}
	space := neighbour(t)
	s := here(t)
	var conns []net.Conn
	dial := func() error {
		conn, err := net.Dial("udp", "198.51.100.2:5353")
		conns = append(conns, conn)
		return err
	}
	if err := errors.Join(dial(), runtime.InNetworkNamespace(space, dial)); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b"} {
		b := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "5353:53/udp")})
		serve(t, b.Namespace, "udp", ":53", name)
		for j, conn := range conns {
			buf := make([]byte, 1)
			// An interface that is just made may lose a packet or hold it back, and then answers of the last round come late.
			for end := time.Now().Add(5 * time.Second); string(buf) != name && time.Now().Before(end); {
				conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
				conn.Write([]byte("x"))
				conn.Read(buf)
			}
			if string(buf) != name {
				t.Errorf("round %d, peer %d: answered by %q, want %q", i, j, buf, name)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
