package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A zone is the part of the network that an address is in. What a stranger names must not be nearer to us than the stranger.
type zone int32

const (
	zoneUnknown zone = iota
	zonePublic
	zonePrivate
	zoneLinkLocal
	zoneLoopback
)

func (z zone) String() string {
	return [...]string{"unknown", "public", "private", "link-local", "loopback"}[z]
}

func zoneOf(a netip.Addr) zone {
	a = a.Unmap()
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	shared := netip.MustParsePrefix("100.64.0.0/10")
	switch {
	case a.IsLoopback(), a.IsUnspecified():
		return zoneLoopback
	case a.IsLinkLocalUnicast(), a.IsMulticast():
		return zoneLinkLocal
	case a.IsPrivate(), shared.Contains(a), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return zonePrivate
	}
	return zonePublic
}

// isLoopbackName tells whether a registry may be spoken to by http without asking. That it is there is checked when it is
// dialled.
func isLoopbackName(hostport string) bool {
	host := hostOnly(hostport)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// errRefused is the root of all refusals to speak to an address.
var errRefused = errors.New("refused")

// A dialer makes the connections of one origin.
type dialer struct {
	origin  *origin
	net     net.Dialer
	proxies *sync.Map // host:port of the proxies in use, which may be anywhere
	away    bool      // for redirects and token realms
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, ok := d.proxies.Load(addr); ok {
		return d.net.DialContext(ctx, network, addr)
	}
	nd := d.net
	if d.away {
		// The address that is dialled counts, not what some other look-up of the name said.
		nd.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return d.origin.allowAway(address)
		}
	}
	conn, err := nd.DialContext(ctx, network, addr)
	if err != nil || d.away {
		return conn, err
	}
	if ap, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		d.origin.zone.Store(int32(zoneOf(ap.Addr())))
	}
	return conn, nil
}

// allowAway refuses addresses nearer than the registry that sent us there.
func (o *origin) allowAway(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", errRefused, address)
	}
	z, home := zoneOf(ap.Addr()), zone(o.zone.Load())
	if z == zonePublic || z == home {
		return nil
	}
	return fmt.Errorf("%s sends forge to the %s address %s, which is %w", o.name, z, ap.Addr(), errRefused)
}

// dialers makes the two transports of an origin: home for the registry itself, away for all others.
func (o *origin) dialers() error {
	proxies := &sync.Map{}
	proxy := func(r *http.Request) (*url.URL, error) {
		u, err := http.ProxyFromEnvironment(r)
		if u != nil {
			proxies.Store(proxyAddress(u), true)
		}
		return u, err
	}
	tlsConf, err := o.conf.tls(o.host)
	if err != nil {
		return err
	}
	if o.insecure {
		tlsConf.InsecureSkipVerify = true
	}
	transport := func(away bool, conf *tls.Config) *http.Transport {
		d := &dialer{
			origin: o, proxies: proxies, away: away,
			net: net.Dialer{Timeout: o.limits.Headers / 2, KeepAlive: 15 * time.Second},
		}
		return &http.Transport{
			Proxy:                  proxy,
			DialContext:            d.dial,
			TLSClientConfig:        conf,
			TLSHandshakeTimeout:    o.limits.Headers / 2,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // digests are of the bytes as they are sent
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
			ReadBufferSize:         64 << 10,
			WriteBufferSize:        64 << 10,
		}
	}
	o.home = transport(false, tlsConf)
	o.away = transport(true, &tls.Config{MinVersion: tls.VersionTLS12})
	return nil
}

// proxyAddress is where a proxy is dialled.
func proxyAddress(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case strings.HasPrefix(u.Scheme, "socks5"):
		port = "1080"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// transient tells whether trying again may help.
func transient(err error) bool {
	var (
		dns  *net.DNSError
		op   *net.OpError
		cert *tls.CertificateVerificationError
		rec  tls.RecordHeaderError
		conn *connError
	)
	switch {
	case !errors.As(err, &conn):
		return false // it is ours
	case errors.Is(err, errRefused), errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &dns):
		return false
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "remote error"):
		return false
	}
	return true
}

// hintFor is what may help against an error of the connection.
func hintFor(err error, name string) string {
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		op   *net.OpError
	)
	switch {
	case errors.As(err, &cert):
		return "; put the certificate of its authority in /etc/docker/certs.d/" + name + "/ca.crt"
	case errors.As(err, &dns):
		return "; check the name and the network"
	case errors.Is(err, errPlain):
		return "; if it is yours, mark it insecure in registries.conf"
	case errors.As(err, &op) && op.Op == "dial":
		return "; is the registry running?"
	}
	return ""
}
