package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// names is a zone.
type names map[string][]netip.Addr

func (n names) Addresses(name string) ([]netip.Addr, bool) {
	list, ok := n[name]
	return slices.Clone(list), ok
}

func (n names) Name(address netip.Addr) (string, bool) {
	for name, list := range n {
		if slices.Contains(list, address) {
			return name, true
		}
	}
	return "", false
}

// start serves a zone at addresses of the loopback interface.
func start(t *testing.T, zone Zone) (s *Server, at string) {
	t.Helper()
	for {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		at := udp.LocalAddr().(*net.UDPAddr).AddrPort()
		tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
		if err != nil { // the port is somebody else's
			udp.Close()
			continue
		}
		s = Serve(udp, tcp, zone)
		t.Cleanup(func() { s.Close() })
		return s, at.String()
	}
}

// client asks a server by Go's own resolver, which is strict about answers.
func client(kind, at string) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, kind, at)
	}}
}

// query asks one question and tells the answer in a line.
func query(t *testing.T, at, name string, typ dnsmessage.Type) string {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 1500)
	if _, err = conn.Write(packed); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil {
		return err.Error()
	}
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	var answers []string
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			answers = append(answers, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			answers = append(answers, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			answers = append(answers, b.PTR.String())
		}
	}
	slices.Sort(answers)
	return fmt.Sprint(m.ID, " ", strings.TrimPrefix(m.RCode.String(), "RCode"), " ", answers)
}

func TestZone(t *testing.T) {
	addr := netip.MustParseAddr
	zone := names{
		"web": {addr("10.0.0.2"), addr("10.0.0.3")}, "six": {addr("10.0.0.4"), addr("fd00::4")},
	}
	for i := range 200 {
		zone["many"] = append(zone["many"], netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}))
	}
	_, at := start(t, zone)
	for _, test := range []struct {
		name string
		typ  dnsmessage.Type
		want string
	}{
		{"web.", dnsmessage.TypeA, "7 Success [10.0.0.2 10.0.0.3]"},
		{"WEB.", dnsmessage.TypeA, "7 Success [10.0.0.2 10.0.0.3]"},
		{"web.", dnsmessage.TypeAAAA, "7 Success []"},
		{"web.", dnsmessage.TypeMX, "7 Success []"},
		{"six.", dnsmessage.TypeAAAA, "7 Success [fd00::4]"},
		{"4.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "7 Success [six.]"},
		{"4." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "7 Success [six.]"},
		{"4.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "7 ServerFailure []"},
		{"9.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "7 ServerFailure []"},
		{"x.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "7 ServerFailure []"},
		{"other.", dnsmessage.TypeA, "7 ServerFailure []"},
	} {
		if got := query(t, at, test.name, test.typ); got != test.want {
			t.Errorf("%s %s: %s, want %s", test.name, test.typ, got, test.want)
		}
	}
	for _, kind := range []string{"udp", "tcp"} {
		list, err := client(kind, at).LookupHost(t.Context(), "web.")
		slices.Sort(list)
		if err != nil || fmt.Sprint(list) != "[10.0.0.2 10.0.0.3]" {
			t.Errorf("%s: %v, %v", kind, list, err)
		}
	}
	if list, err := client("tcp", at).LookupHost(t.Context(), "many."); err != nil || len(list) != 200 {
		t.Errorf("many by tcp: %d, %v", len(list), err)
	}
	if list, err := client("udp", at).LookupHost(t.Context(), "many."); err != nil || len(list) < 20 {
		t.Errorf("many by udp: %d, %v", len(list), err)
	}
}

// TestForward: what the zone does not have is asked of others, in turn, by the way it came.
func TestForward(t *testing.T) {
	_, there := start(t, names{"far": {netip.MustParseAddr("10.9.9.9")}})
	s, at := start(t, names{"web": {netip.MustParseAddr("10.0.0.2")}})
	deaf := netip.MustParseAddrPort("127.0.0.1:1")
	s.Ask([]netip.AddrPort{deaf, netip.MustParseAddrPort(there)})
	for _, kind := range []string{"udp", "tcp"} {
		list, err := client(kind, at).LookupHost(t.Context(), "far.")
		if err != nil || fmt.Sprint(list) != "[10.9.9.9]" {
			t.Errorf("%s: %v, %v", kind, list, err)
		}
	}
	if got := query(t, at, "nowhere.", dnsmessage.TypeA); got != "7 ServerFailure []" {
		t.Error(got)
	}
	s.Ask(nil)
	if got := query(t, at, "far.", dnsmessage.TypeA); got != "7 ServerFailure []" {
		t.Errorf("with nobody to ask: %s", got)
	}
}

// TestRefusal: a server that says nothing of a name is not the last to be asked, and is believed if nobody knows more.
func TestRefusal(t *testing.T) {
	_, knows := start(t, names{"far": {netip.MustParseAddr("10.9.9.9")}})
	_, fails := start(t, names{})
	for code, want := range map[dnsmessage.RCode]string{
		dnsmessage.RCodeServerFailure: "7 Success [10.9.9.9]", dnsmessage.RCodeNotImplemented: "7 Success [10.9.9.9]",
		dnsmessage.RCodeRefused: "7 Success [10.9.9.9]", dnsmessage.RCodeNameError: "7 NameError []",
	} {
		refuser, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer refuser.Close()
		go func() {
			for buf := make([]byte, 1500); ; {
				n, from, err := refuser.ReadFrom(buf)
				if err != nil {
					return
				}
				buf[2], buf[3] = buf[2]|0x80, byte(code)
				refuser.WriteTo(buf[:n], from)
			}
		}()
		s, at := start(t, names{})
		first := netip.MustParseAddrPort(refuser.LocalAddr().String())
		s.Ask([]netip.AddrPort{first, netip.MustParseAddrPort(knows)})
		if got := query(t, at, "far.", dnsmessage.TypeA); got != want {
			t.Errorf("%v, and then one that knows: %s, want %s", code, got, want)
		}
		s.Ask([]netip.AddrPort{first, netip.MustParseAddrPort(fails)})
		if got, want := query(t, at, "far.", dnsmessage.TypeA), "7 "+strings.TrimPrefix(code.String(), "RCode")+" []"; got != want {
			t.Errorf("%v, and nobody who knows: %s, want %s", code, got, want)
		}
	}
	s, at := start(t, names{})
	s.Ask([]netip.AddrPort{netip.MustParseAddrPort(fails), netip.MustParseAddrPort(knows)})
	if list, err := client("tcp", at).LookupHost(t.Context(), "far."); err != nil || fmt.Sprint(list) != "[10.9.9.9]" {
		t.Errorf("tcp: %v, %v", list, err)
	}
}

// TestSlowUpstream: servers that say nothing hold up neither names of the zone nor the end, and questions that are too many
// are answered at once.
func TestSlowUpstream(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s, at := start(t, names{"web": {netip.MustParseAddr("10.0.0.2")}})
	s.Ask([]netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String())})
	conn, err := net.Dial("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("far."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for i := range maxWaiting {
		m.ID = uint16(i)
		packed, _ := m.Pack()
		conn.Write(packed)
	}
	begin := time.Now()
	if got := query(t, at, "web.", dnsmessage.TypeA); got != "7 Success [10.0.0.2]" {
		t.Error(got)
	}
	if got := query(t, at, "far.", dnsmessage.TypeA); got != "7 ServerFailure []" {
		t.Error(got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > timeout/2 {
		t.Errorf("took %v", took)
	}
}

// TestStrangers: what is no question gets no answer, and an answer that belongs to no question is not passed on.
func TestStrangers(t *testing.T) {
	liar, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := liar.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[0]++
			liar.WriteTo(buf[:n], from)
			buf[0]--
			buf[2] |= 0x80
			liar.WriteTo(buf[:n], from)
		}
	}()
	s, at := start(t, names{})
	s.Ask([]netip.AddrPort{netip.MustParseAddrPort(liar.LocalAddr().String())})
	if got := query(t, at, "far.", dnsmessage.TypeA); got != "7 Success []" {
		t.Error(got)
	}
	for _, kind := range []string{"udp4", "tcp4"} {
		conn, err := net.Dial(kind, at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte("\x00\x05nothing"))
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 10)); n > 0 || err == nil || kind == "udp4" && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: %d bytes, %v", kind, n, err)
		}
	}
}

func FuzzQuestion(f *testing.F) {
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypePTR} {
		m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("4.0.0.10.in-addr.arpa."), Type: typ, Class: dnsmessage.ClassINET}}}
		packed, _ := m.Pack()
		f.Add(packed)
	}
	s := &Server{zone: names{"web": {netip.MustParseAddr("10.0.0.4")}}}
	f.Fuzz(func(t *testing.T, message []byte) {
		q, ok := parse(message)
		if !ok {
			return
		}
		var m dnsmessage.Message
		for _, answer := range [][]byte{s.own(q, udpSize), q.answer(dnsmessage.RCodeServerFailure, nil)} {
			if answer != nil && (m.Unpack(answer) != nil || m.ID != q.header.ID || len(answer) > udpSize) {
				t.Errorf("answer %x", answer)
			}
		}
	})
}
