package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options of a [Client]. The zero value is for a web server that anybody may name.
type Options struct {
	Limits    Limits
	UserAgent string      // "" is forge
	Peer      string      // what messages call the other side; "" is server
	TLS       *tls.Config // for the named server; others that it names are held to its RootCAs; nil is the default
	Downgrade Downgrade
	Socket    string // path of the Unix socket of the named server; "" is its address
	Direct    bool   // no proxy is used: the named server is one that only this machine reaches, such as a cloud's metadata server
}

// A Downgrade says whether a server may send a client from https to http.
type Downgrade int

// The values of a Downgrade.
const (
	DowngradeRefused Downgrade = iota
	DowngradeAllowed
)

// A Client speaks to one server, which the caller named, and to the places that this server names: redirects, token
// services, places for uploads. What the caller names may be anywhere. What a server names must be public or in the
// server's own zone, by the address that is really dialled. Safe for concurrent use.
type Client struct {
	opts    Options
	host    string
	home    *http.Transport // to the named server
	away    *http.Transport // to all others
	zone    atomic.Int32    // where the named server was last dialled
	proxies sync.Map        // host:port of the proxies in use, which may be anywhere
}

// New returns a client of the server at host[:port]. It connects to nothing yet. Proxies are those of the environment
// (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), read once a process.
func New(host string, o Options) *Client {
	o.Limits = o.Limits.OrDefaults()
	if o.UserAgent == "" {
		o.UserAgent = "forge"
	}
	if o.Peer == "" {
		o.Peer = "server"
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c := &Client{opts: o, host: host}
	d := net.Dialer{Timeout: o.Limits.Headers / 2, KeepAlive: 15 * time.Second}
	c.home = c.transport(o.TLS, func(ctx context.Context, network, addr string) (net.Conn, error) {
		if o.Socket != "" {
			return d.DialContext(ctx, "unix", o.Socket)
		}
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil || c.isProxy(addr) {
			return conn, err
		}
		if ap, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
			c.zone.Store(int32(zoneOf(ap.Addr())))
		}
		return conn, nil
	})
	guarded := d
	guarded.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return c.checkDial(address)
	}
	// A company's authority is named once, for the server that people know: it has signed for those behind it, too.
	c.away = c.transport(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.TLS.RootCAs}, func(ctx context.Context, network, addr string) (net.Conn, error) {
		if c.isProxy(addr) {
			return d.DialContext(ctx, network, addr)
		}
		return guarded.DialContext(ctx, network, addr)
	})
	return c
}

func (c *Client) transport(conf *tls.Config, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  c.proxy,
		OnProxyConnectResponse: checkProxy,
		DialContext:            dial,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    c.opts.Limits.Headers / 2,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // digests are of the bytes as they are sent
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}
}

func (c *Client) proxy(r *http.Request) (*url.URL, error) {
	if c.opts.Socket != "" || c.opts.Direct {
		return nil, nil
	}
	u, err := http.ProxyFromEnvironment(r)
	if u != nil {
		c.proxies.Store(proxyAddress(u), true)
	}
	return u, err
}

// A ProxyError is the refusal of a proxy to let a client through. The same request will not fare better.
type ProxyError struct {
	Proxy string // host:port
	Code  int    // HTTP status
}

func (e *ProxyError) Error() string {
	text := fmt.Sprintf("the proxy %s refuses: %d %s", e.Proxy, e.Code, http.StatusText(e.Code))
	if e.Code == http.StatusProxyAuthRequired {
		text += "; give it a name and password: HTTPS_PROXY=http://NAME:PASSWORD@" + e.Proxy
	}
	return text
}

// checkProxy looks at a proxy's answer to CONNECT. That it is busy or does not get through may be different in a moment.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout {
		return &ProxyError{Proxy: proxy.Host, Code: resp.StatusCode}
	}
	return nil
}

func (c *Client) isProxy(addr string) bool {
	_, ok := c.proxies.Load(addr)
	return ok
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

// IsLocal reports whether the named server, when it was last dialled, was on this machine.
func (c *Client) IsLocal() bool { return c.lastZone() == loopback }

// lastZone is where the named server was last dialled; unknown before that, and if it is reached through a proxy.
func (c *Client) lastZone() zone { return zone(c.zone.Load()) }

// Close closes connections that are idle. The client stays usable.
func (c *Client) Close() error {
	c.home.CloseIdleConnections()
	c.away.CloseIdleConnections()
	return nil
}

// checkDial refuses an address that the named server may not name.
func (c *Client) checkDial(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrRefused, address)
	}
	return c.checkZone(zoneOf(ap.Addr()), ap.Addr().String())
}

func (c *Client) checkZone(z zone, name string) error {
	if c.lastZone().mayName(z) {
		return nil
	}
	return fmt.Errorf("%s sends forge to the %s address %s, which is %w", c.host, z, name, ErrRefused)
}

// Allow reports an error if from may not send the client to a place, as far as the address tells before it is dialled. It
// removes name and password from the address: they are not from's to choose.
func (c *Client) Allow(from, to *url.URL) error {
	to.User = nil
	switch {
	case to.Host == "" || to.Scheme != "https" && to.Scheme != "http":
		return fmt.Errorf("%s sends forge to a place that is not http: %w", c.host, ErrRefused)
	case to.Scheme == "http" && from.Scheme == "https" && c.opts.Downgrade != DowngradeAllowed:
		return fmt.Errorf("%s sends forge from https to http: %w", c.host, ErrRefused)
	}
	if z := zoneOfHost(to.Host); z > public && !c.IsHome(to) {
		return c.checkZone(z, HostOnly(to.Host)) // a proxy would not know whom it dials for
	}
	return nil
}

// IsHome reports whether u is at the named server's address, whatever the scheme.
func (c *Client) IsHome(u *url.URL) bool {
	return strings.EqualFold(withPort(u.Scheme, u.Host), withPort(u.Scheme, c.host))
}

func withPort(scheme, host string) string {
	if strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']') {
		return host
	}
	return host + map[string]string{"https": ":443", "http": ":80"}[scheme]
}

// A ConnError is a failure of the connection, or of one who speaks through it.
type ConnError struct{ Err error }

func (e *ConnError) Error() string { return e.Err.Error() }
func (e *ConnError) Unwrap() error { return e.Err }

// Retryable reports whether the same request may fare better in a moment: after a connection that broke, and after a
// [DelayError]. A name that is not found, a port that is closed, a false certificate and a refusal of ours stay as they are.
func Retryable(err error) bool {
	var (
		delay *DelayError
		dns   *net.DNSError
		op    *net.OpError
		cert  *tls.CertificateVerificationError
		rec   tls.RecordHeaderError
		conn  *ConnError
		proxy *ProxyError
	)
	switch {
	case errors.As(err, &proxy):
		return false
	case errors.As(err, &delay):
		return true
	case !errors.As(err, &conn):
		return false // it is ours
	case errors.Is(err, ErrRefused), errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &dns):
		return false
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "remote error"):
		return false
	}
	return true
}

// withoutURL removes from an error of net/url and net/http the address, password and all.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Drain closes an answer whose body says nothing, so that its connection can be used again.
func Drain(resp *http.Response) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.Body.Close()
}
