package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/runtime"
)

// lookup resolves a name, or with an address its name, in a container.
func lookup(t *testing.T, b *Sandbox, kind, name string) string {
	t.Helper()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		err = runtime.InNetworkNamespace(b.Namespace, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, kind, NameServerAddress+":53")
			return err
		})
		return conn, err
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var list []string
	var err error
	if _, isAddr := netip.ParseAddr(name); isAddr == nil {
		list, err = r.LookupAddr(ctx, name)
	} else {
		list, err = r.LookupHost(ctx, name)
	}
	slices.Sort(list)
	if err != nil {
		return "error"
	}
	return strings.Join(list, " ")
}

// TestNames: containers in a network that was created know each other by name.
func TestNames(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n"})
	create(t, s, Config{Name: "m"})
	create(t, s, Config{Name: "in", Internal: true})
	// A name server of this machine, which knows one name.
	host := run(t, s, Options{Networks: byDefault.Networks, Container: strings.Repeat("e", 64)})
	far, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go answerAll(far)
	upstream := []netip.AddrPort{netip.MustParseAddrPort(far.LocalAddr().String())}

	one := run(t, s, Options{Container: strings.Repeat("a", 64), Name: "One", Networks: []Attachment{{Network: "n", Aliases: []string{"web"}}}})
	two := run(t, s, Options{Container: strings.Repeat("b", 64), Name: "two", Networks: []Attachment{{Network: "n", Aliases: []string{"web"}}, {Network: "m"}}})
	only := run(t, s, Options{Container: strings.Repeat("c", 64), Name: "only", Networks: []Attachment{{Network: "in"}}})
	for _, b := range []*Sandbox{one, two, only, host} {
		if at, err := b.NameServer(upstream); err != nil || at.String() != NameServerAddress {
			t.Fatal(at, err)
		}
	}
	// Who is a name server itself has port 53.
	serve(t, one.Namespace, "udp", ":53", "own")
	serve(t, one.Namespace, "tcp", ":53", "own")
	addr := func(b *Sandbox) string { return b.Endpoints()[0].Address.Addr().String() }
	both := addr(one) + " " + addr(two)
	for _, test := range []struct {
		from       *Sandbox
		kind, name string
		want       string
	}{
		{one, "udp", "two", addr(two)},
		{one, "tcp", "two", addr(two)},
		{one, "udp", "one", addr(one)},
		{two, "udp", "ONE", addr(one)},
		{two, "udp", "one.n", addr(one)},
		{two, "udp", "aaaaaaaaaaaa", addr(one)},
		{one, "udp", "web", both},
		{one, "udp", addr(two), "two.n."},
		{one, "udp", "only", "192.0.2.53"}, // not in its network: this machine's server says so
		{one, "udp", "far", "192.0.2.53"},
		{host, "udp", "far", "192.0.2.53"},
		{host, "udp", "two", "192.0.2.53"},
		{only, "udp", "only", addr(only)},
		{only, "udp", "far", "error"}, // questions can carry data out
	} {
		if got := lookup(t, test.from, test.kind, test.name); got != test.want {
			t.Errorf("%s asks for %s by %s: %s, want %s", test.from.name, test.name, test.kind, got, test.want)
		}
	}
	if err := two.Rename(t.Context(), "three"); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(lookup(t, one, "udp", "three"), lookup(t, one, "udp", "two")); got != addr(two)+"192.0.2.53" {
		t.Errorf("renamed: %s", got)
	}
	if _, err := only.Connect(t.Context(), Attachment{Network: "n", Aliases: []string{"late"}}); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, one, "udp", "late"); got != only.Endpoints()[1].Address.Addr().String() {
		t.Errorf("connected: %s", got)
	}
	if got := lookup(t, only, "udp", "far"); got != "192.0.2.53" {
		t.Errorf("with a way out: %s", got)
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, one, "udp", "web"); got != addr(one) {
		t.Errorf("after one has ended: %s", got)
	}
}

// answerAll is a name server that knows one address for all names.
func answerAll(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		answer := slices.Clone(buf[:n])
		answer[2] |= 0x80
		answer[11] = 0 // without what came besides the question
		end := 12
		for answer[end] != 0 {
			end += int(answer[end]) + 1
		}
		answer = answer[:end+5]
		if answer[end+2] == 1 {
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 53)
		}
		conn.WriteTo(answer, from)
	}
}

// TestLinks: a container knows another one by the alias of its link, which nobody else does, as long as that is in the same network. An
// alias comes before the name of a third one.
func TestLinks(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n", Subnet: netip.MustParsePrefix("10.1.1.0/24")})
	create(t, s, Config{Name: "m", Subnet: netip.MustParsePrefix("10.1.2.0/24")})
	start := func(id, name string, a ...Attachment) *Sandbox {
		b := run(t, s, Options{Container: strings.Repeat(id, 64), Name: name, Networks: a})
		if _, err := b.NameServer(nil); err != nil {
			t.Fatal(err)
		}
		return b
	}
	links := []Link{{"db", "store"}, {strings.Repeat("a", 64), "whole"}, {"DATA", "by-alias"}, {"db", "third"}, {"later", "late"}, {"far", "away"}}
	start("a", "db", Attachment{Network: "n", Aliases: []string{"data"}, Interface: "side0"})
	web := start("b", "web", Attachment{Network: "n", Links: links})
	third := start("c", "third", Attachment{Network: "n"})
	start("d", "far", Attachment{Network: "m"})
	for _, test := range []struct {
		b          *Sandbox
		name, want string
	}{
		{web, "store", "10.1.1.2"},
		{web, "STORE.n", "10.1.1.2"},
		{web, "whole", "10.1.1.2"},
		{web, "by-alias", "10.1.1.2"},
		{web, "third", "10.1.1.2"},
		{third, "third", "10.1.1.4"},
		{third, "store", "error"},
		{web, "late", "error"},
		{web, "away", "error"}, // in another network
	} {
		if got := lookup(t, test.b, "udp", test.name); got != test.want {
			t.Errorf("%s of %s: %s, want %s", test.name, test.b.name, got, test.want)
		}
	}
	start("e", "later", Attachment{Network: "n"})
	if got := lookup(t, web, "udp", "late"); got != "10.1.1.5" {
		t.Errorf("of one that came later: %s", got)
	}
	if _, err := web.Connect(t.Context(), Attachment{Network: "m", Interface: "eth0"}); fmt.Sprint(err) != "the container has an interface eth0 already: give the one in network m another name" {
		t.Errorf("a name of two interfaces: %v", err)
	}
	if e, err := web.Connect(t.Context(), Attachment{Network: "m", Links: []Link{{"far", "away"}}, Interface: "side7"}); err != nil || e.Interface != "side7" {
		t.Errorf("connected as %+v, %v", e, err)
	}
	if got := lookup(t, web, "udp", "away"); got != "10.1.2.2" {
		t.Errorf("of one in a network that was connected later: %s", got)
	}
	if err := runtime.InNetworkNamespace(web.Namespace, func() error { _, err := interfaceIndex("side7"); return err }); err != nil {
		t.Error(err)
	}
}
