package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// How patient a download is.
const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 60 * time.Second
	maxTries      = 6
	maxPause      = 60 * time.Second
	maxRetrying   = 150 * time.Second // from the first failure to the last try
	maxRedirects  = 10
)

// A permanentError is not worth another try.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// fetchURL gets a URL and hands the response, 200 or 304, to use, which reads its body; if that fails the whole is tried
// again. Servers that are busy or break off get some tries.
func fetchURL(ctx context.Context, address string, known download, use func(r *http.Response) error) error {
	client := newHTTPClient()
	defer client.CloseIdleConnections()
	begun := time.Now()
	for try := 1; ; try++ {
		pause, err := fetchOnce(ctx, client, address, known, use)
		var permanent *permanentError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &permanent):
			return permanent.err
		}
		if pause == 0 {
			pause = time.Duration(float64(100*time.Millisecond<<try) * (0.5 + rand.Float64()))
		}
		if try == maxTries || time.Since(begun)+pause > maxRetrying {
			return fmt.Errorf("%w (after %d tries)", err, try)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// fetchOnce is one try. An error comes with how long the server wants to be left alone, if it says so.
func fetchOnce(ctx context.Context, client *http.Client, address string, known download, use func(r *http.Response) error) (pause time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, dialRule{}, &atomic.Int32{}))
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, &permanentError{err}
	}
	req.Header.Set("User-Agent", "forge")
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	} else if known.LastModified != "" {
		req.Header.Set("If-Modified-Since", known.LastModified)
	}
	res, err := client.Do(req)
	if err != nil {
		var refused *refusedError
		if errors.As(err, &refused) {
			return 0, &permanentError{refused}
		}
		return 0, unwrapURL(err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	switch code := res.StatusCode; {
	case code == http.StatusOK, code == http.StatusNotModified && known.Digest != "":
		idle := time.AfterFunc(idleTimeout, func() { cancel(fmt.Errorf("nothing came for %v", idleTimeout)) })
		defer idle.Stop()
		res.Body = &patientBody{ReadCloser: res.Body, idle: idle, ctx: ctx}
		return 0, use(res)
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return retryAfter(res), fmt.Errorf("server answers %s", res.Status)
	default:
		return 0, &permanentError{fmt.Errorf("server answers %s", res.Status)}
	}
}

// retryAfter is how long the server asks to wait, at most maxPause.
func retryAfter(res *http.Response) time.Duration {
	value := res.Header.Get("Retry-After")
	if n, err := strconv.Atoi(value); err == nil && n >= 0 {
		return min(time.Duration(n)*time.Second, maxPause)
	}
	if t, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(t), 0), maxPause)
	}
	return 0
}

// unwrapURL takes off what net/http says of the URL, password and all.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// A patientBody waits as long as something comes.
type patientBody struct {
	io.ReadCloser
	idle *time.Timer
	ctx  context.Context
}

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.idle.Reset(idleTimeout)
	}
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

// newHTTPClient is a client for URLs of a build file. A redirection from a public address to a private one is refused:
// the server would have the builder ask what only the builder can.
func newHTTPClient() *http.Client {
	dialer := &net.Dialer{Timeout: headerTimeout, ControlContext: checkDial}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    headerTimeout,
			ResponseHeaderTimeout:  headerTimeout,
			DisableCompression:     true, // the bytes as they are
			MaxResponseHeaderBytes: 1 << 20,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return &refusedError{fmt.Sprintf("more than %d redirections", maxRedirects)}
			}
			if rule, ok := req.Context().Value(dialRule{}).(*atomic.Int32); ok {
				rule.CompareAndSwap(dialedPublic, onlyPublic)
			}
			return nil
		},
	}
}

// A refusedError is a rule of ours, not of the network.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// dialRule is the context's key for what a request has dialled so far.
type dialRule struct{}

const (
	dialedPublic  = 1 // the first address was public
	dialedPrivate = 2 // it was not: anything goes
	onlyPublic    = 3 // redirected by a public server
)

// checkDial looks at the address that is really dialled, names being resolved.
func checkDial(ctx context.Context, _, address string, _ syscall.RawConn) error {
	rule, ok := ctx.Value(dialRule{}).(*atomic.Int32)
	if !ok {
		return nil
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := ap.Addr().Unmap()
	private := ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast()
	if !private {
		rule.CompareAndSwap(0, dialedPublic)
		return nil
	}
	rule.CompareAndSwap(0, dialedPrivate)
	if rule.Load() == onlyPublic {
		return &refusedError{"redirection to the private address " + ip.String() + " is refused"}
	}
	return nil
}
