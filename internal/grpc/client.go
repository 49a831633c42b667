package grpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/proto"
	"github.com/forge-build/forge/internal/web"
)

// Options of a [Client]. The zero value works.
type Options struct {
	MaxMessage int         // bytes that a received message may have; 0 is DefaultMaxMessage
	Metadata   Metadata    // of every call
	UserAgent  string      // "" is forge
	TLS        *tls.Config // for grpcs; nil is the default of this machine
	Authority  string      // the name that servers are told they have; "" is the host of the address
}

// A Client makes calls to one server. It is safe for concurrent use.
type Client struct {
	codec proto.Codec
	trip  http.RoundTripper
	close func() error
	base  url.URL
	opts  Options
}

// Dial returns a client of the server at an address: grpc://HOST[:PORT] without TLS (port 80), grpcs://HOST[:PORT] with it (port 443, through the proxy that
// HTTPS_PROXY names), or unix://PATH. It connects to nothing yet; it opens as many connections as the server's limit of calls on one asks for.
func Dial(address string, o Options) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: 20 * time.Second, KeepAlive: 15 * time.Second}
	t := web.HTTP2(dialer.DialContext)
	t.TLSClientConfig = o.TLS
	base := url.URL{Scheme: "http", Host: u.Host}
	switch {
	case u.Scheme == "grpc" && u.Host != "":
	case u.Scheme == "grpcs" && u.Host != "":
		base.Scheme = "https"
		t.Proxy = http.ProxyFromEnvironment
	case u.Scheme == "unix" && u.Host == "" && path.IsAbs(u.Path):
		base.Host = "localhost"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Path)
		}
	default:
		return nil, fmt.Errorf("address %q: want grpc://HOST[:PORT], grpcs://HOST[:PORT] or unix:///PATH", address)
	}
	return newClient(t, func() error { t.CloseIdleConnections(); return nil }, base, o), nil
}

// Over returns a client that makes its calls over one connection, which the other side serves. Closing the client closes the connection, and so does a
// failure to begin. Who has read from the connection before gives one that reads the rest first.
func Over(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	t := web.HTTP2(func(context.Context, string, string) (net.Conn, error) { return conn, nil })
	t.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true} // there is no second connection
	cc, err := t.NewClientConn(ctx, "http", "localhost:80")
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newClient(cc, cc.Close, url.URL{Scheme: "http", Host: "localhost"}, o), nil
}

func newClient(trip http.RoundTripper, shut func() error, base url.URL, o Options) *Client {
	if o.MaxMessage <= 0 {
		o.MaxMessage = DefaultMaxMessage
	}
	if o.UserAgent == "" {
		o.UserAgent = "forge"
	}
	return &Client{trip: trip, close: shut, base: base, opts: o}
}

// Close gives back the connections that no call uses; those of [Over] at once, which ends the calls on it.
func (c *Client) Close() error { return c.close() }

// Invoke calls a method, named as /package.Service/Method, with one message, and reads the one that answers it. Metadata may be nil.
func (c *Client) Invoke(ctx context.Context, method string, md Metadata, in, out any) error {
	call, err := c.Ask(ctx, method, md, in)
	if err != nil {
		return err
	}
	defer call.Close()
	switch err := call.Recv(out); {
	case err == io.EOF:
		return Errorf(Internal, "%s: there is no message in the answer", method)
	case err != nil:
		return err
	}
	var more struct{}
	switch err := call.Recv(&more); {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	}
	return Errorf(Internal, "%s: there is more than one message in the answer", method)
}

// Ask begins a call in which one message is sent and several may come. It returns when the answer begins, or the call has failed, which Recv says; its own error is
// about the message. The call takes a connection as that of Start does. It takes less memory, since nothing waits for more to send.
func (c *Client) Ask(ctx context.Context, method string, md Metadata, in any) (*Call, error) {
	frame, err := appendFrame(nil, &c.codec, in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	call := c.call(ctx, cancel)
	req, err := c.request(ctx, method, md, io.NopCloser(bytes.NewReader(frame)))
	if err == nil {
		req.ContentLength = int64(len(frame)) // else net/http takes half a megabyte to read it into, where the server takes large frames
	}
	call.round(req, err)
	return call, nil
}

// Start begins a call in which either side may send several messages. It returns at once. The call takes a connection until Recv has returned an error, or ctx
// is done, or the call is closed.
func (c *Client) Start(ctx context.Context, method string, md Metadata) *Call {
	ctx, cancel := context.WithCancel(ctx)
	call := c.call(ctx, cancel)
	body, w := io.Pipe()
	call.body = w
	req, err := c.request(ctx, method, md, body)
	// While net/http waits for more of a body it does not look at the context.
	context.AfterFunc(ctx, func() { body.CloseWithError(ctx.Err()) })
	go func() {
		call.round(req, err)
		if call.failed != nil {
			body.CloseWithError(io.ErrClosedPipe)
		}
	}()
	return call
}

// request makes the HTTP request of a call.
func (c *Client) request(ctx context.Context, method string, md Metadata, body io.ReadCloser) (*http.Request, error) {
	u := c.base
	u.Path = method
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
	if err != nil {
		return nil, &Error{Code: Internal, Message: err.Error()}
	}
	if !strings.HasPrefix(method, "/") {
		return nil, Errorf(Internal, "the method %q does not begin with a slash", method)
	}
	req.Host = c.opts.Authority
	req.ContentLength = -1
	for _, m := range []Metadata{c.opts.Metadata, md} {
		if err := addMetadata(req.Header, "", m); err != nil {
			return nil, err
		}
	}
	h := req.Header
	h.Set("Content-Type", contentType)
	h.Set("Te", "trailers")
	h.Set("User-Agent", c.opts.UserAgent)
	h.Set(headerAccept, acceptEncodings)
	if deadline, ok := ctx.Deadline(); ok {
		h.Set(headerTimeout, formatTimeout(time.Until(deadline)))
	}
	return req, nil
}

// call makes a call that has not begun.
func (c *Client) call(ctx context.Context, cancel context.CancelFunc) *Call {
	return &Call{ctx: ctx, cancel: cancel, client: c, answered: make(chan struct{})}
}
