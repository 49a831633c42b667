package web

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// TestMayName holds where a server may send a client: "home -> address" is judged by the address that is dialled.
func TestMayName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		home, to string
		zone     zone
		ok       bool
	}{
		{"93.184.216.34", "93.184.216.35", public, true},
		{"93.184.216.34", "2606:4700::1111", public, true},
		{"93.184.216.34", "64:ff9b::5db8:d822", public, true},
		{"93.184.216.34", "2002:5db8:d822::1", public, true},
		{"93.184.216.34", "127.0.0.1", loopback, false},
		{"93.184.216.34", "127.1.2.3", loopback, false},
		{"93.184.216.34", "0.0.0.0", loopback, false},
		{"93.184.216.34", "0.1.2.3", loopback, false},
		{"93.184.216.34", "::1", loopback, false},
		{"93.184.216.34", "::", loopback, false},
		{"93.184.216.34", "::ffff:127.0.0.1", loopback, false},
		{"93.184.216.34", "::127.0.0.1", loopback, false},
		{"93.184.216.34", "::ffff:0:127.0.0.1", loopback, false},
		{"93.184.216.34", "169.254.169.254", linkLocal, false},
		{"93.184.216.34", "fe80::1", linkLocal, false},
		{"93.184.216.34", "fe80::1%eth0", linkLocal, false},
		{"93.184.216.34", "224.0.0.1", linkLocal, false},
		{"93.184.216.34", "ff02::1", linkLocal, false},
		{"93.184.216.34", "64:ff9b::a9fe:a9fe", linkLocal, false},
		{"93.184.216.34", "64:ff9b::a9fe:a9fe%eth0", linkLocal, false},
		{"93.184.216.34", "2002:a9fe:a9fe::1", linkLocal, false},
		{"93.184.216.34", "2001:0:4136:e378:8000:63bf:5601:5601", linkLocal, false},
		{"93.184.216.34", "2606:4700::5efe:a9fe:a9fe", linkLocal, false},
		{"93.184.216.34", "2606:4700::200:5efe:a9fe:a9fe", linkLocal, false},
		{"93.184.216.34", "10.1.2.3", private, false},
		{"93.184.216.34", "172.16.0.1", private, false},
		{"93.184.216.34", "192.168.1.1", private, false},
		{"93.184.216.34", "::ffff:192.168.1.1", private, false},
		{"93.184.216.34", "fd00::1", private, false},
		{"93.184.216.34", "fec0::1", private, false},
		{"93.184.216.34", "100.100.100.200", private, false},
		{"93.184.216.34", "192.0.0.192", private, false},
		{"93.184.216.34", "198.18.0.1", private, false},
		{"93.184.216.34", "203.0.113.1", private, false},
		{"93.184.216.34", "240.0.0.1", private, false},
		{"93.184.216.34", "255.255.255.255", private, false},
		{"93.184.216.34", "64:ff9b:1::a9fe:a9fe", private, false},
		{"93.184.216.34", "64:ff9b::a00:1", private, false},
		{"93.184.216.34", "2001:db8::1", private, false},
		{"10.1.2.3", "10.1.2.4", private, true},
		{"10.1.2.3", "100.64.0.1", private, true},
		{"10.1.2.3", "93.184.216.34", public, true},
		{"10.1.2.3", "127.0.0.1", loopback, false},
		{"10.1.2.3", "169.254.169.254", linkLocal, false},
		{"127.0.0.1", "127.0.0.2", loopback, true},
		{"127.0.0.1", "10.1.2.3", private, false},
		{"127.0.0.1", "169.254.169.254", linkLocal, false},
	} {
		c := New("h", Options{})
		c.zone.Store(int32(zoneOf(netip.MustParseAddr(test.home))))
		to := netip.MustParseAddr(test.to)
		if z := zoneOf(to); z != test.zone {
			t.Errorf("%s is %s, want %s", to, z, test.zone)
		}
		err := c.checkDial(netip.AddrPortFrom(to, 80).String())
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s -> %s: %v, want ok %v", test.home, test.to, err, test.ok)
		}
	}
	if unknown.mayName(unknown) || unknown.mayName(loopback) || !unknown.mayName(public) {
		t.Error("a server behind a proxy may name public addresses only")
	}
}

// TestAllow holds what is refused before anything is dialled.
func TestAllow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ from, to, want string }{
		{"https://h/a", "https://other/b", ""},
		{"https://h/a", "/b", ""},
		{"http://h/a", "https://h/a", ""},
		{"https://h/a", "http://h/a", "from https to http"},
		{"https://h/a", "file:///etc/passwd", "not http"},
		{"https://h/a", "ftp://h/a", "not http"},
		{"https://h/a", "https:///a", "not http"},
		{"https://h/a", "https://localhost/a", "loopback address localhost"},
		{"https://h/a", "https://x.LOCALHOST.:5000/a", "loopback address"},
		{"https://h/a", "https://[::1]:443/a", "loopback address ::1"},
		{"https://h/a", "https://169.254.169.254/a", "link-local address"},
	} {
		c := New("h", Options{})
		c.zone.Store(int32(public))
		from, err := url.Parse(test.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := from.Parse(test.to)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Allow(from, to)
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s -> %s: %v, want %q", test.from, test.to, err, test.want)
		}
	}
	to, _ := url.Parse("http://user:pass@h/a")
	if err := New("h", Options{Downgrade: DowngradeAllowed}).Allow(&url.URL{Scheme: "https", Host: "h"}, to); err != nil || to.String() != "http://h/a" {
		t.Errorf("a redirect that may be to http: %v, %s; want it without a login", err, to)
	}
}

func TestIsLoopbackName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "a.localhost:1": true, "127.0.0.1:5000": true, "127.9.9.9": true, "[::1]:5000": true, "[::1]": true,
		"localhost.example.com": false, "10.0.0.1:5000": false, "example.com": false, "": false,
	} {
		if got := IsLoopbackName(host); got != want {
			t.Errorf("IsLoopbackName(%q) = %v, want %v", host, got, want)
		}
	}
}
