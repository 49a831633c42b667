package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// An origin is a registry's scheme, host and port: what credentials belong to.
type origin struct {
	name      string // as people and credential files say: docker.io
	host      string // host[:port] that speaks the protocol: registry-1.docker.io
	insecure  bool
	limits    Limits
	userAgent string
	retrying  func(error)
	conf      *Config
	auth      *authorizer
	home      *http.Transport // to the registry itself
	away      *http.Transport // to wherever it sends us
	zone      atomic.Int32    // where the registry was last dialled

	mu     sync.Mutex // guards scheme
	scheme string     // "" until a loopback or insecure registry was heard
}

// A request is what is asked of an origin, or of a place that it named.
type request struct {
	method string
	path   string   // on the origin, with query; ignored if url is set
	url    *url.URL // of an upload, which may be of another origin: it gets no credentials then
	header http.Header
	body   func() (io.ReadCloser, error) // called for each try; nil for none
	size   int64                         // of the body; -1 if not known
	repo   string                        // repository at the origin, for its credentials
	scopes []string                      // what a token must allow
	want   []int                         // statuses that are a success
	once   bool                          // the caller tries again, if anybody does
	budget *budget                       // of tries; nil for one of its own
	name   string                        // what is asked for, in messages
	heavy  int64                         // bytes that were sent before and that the answer is about
}

var errPlain = errors.New("speaks http, not https")

// do sends a request until it is answered as wanted or the budget is spent. The body of the answer is to be closed.
func (o *origin) do(ctx context.Context, req *request) (*http.Response, error) {
	b := req.budget
	if b == nil {
		b = newBudget(o.limits, o.retrying)
	}
	for {
		resp, err := o.attempt(ctx, req, b)
		if err != nil {
			var re *ResponseError
			if !errors.As(err, &re) {
				err = fmt.Errorf("%s: %w%s", req.name, err, hintFor(err, o.host))
			}
			if ctx.Err() != nil || req.once || !retryable(err) {
				return nil, err
			}
			if err := b.wait(ctx, err); err != nil {
				return nil, err
			}
			continue
		}
		return resp, nil
	}
}

// retryable tells whether the same request may fare better in a moment.
func retryable(err error) bool {
	var re *ResponseError
	if errors.As(err, &re) {
		return re.Status == http.StatusRequestTimeout || re.Status == http.StatusTooManyRequests ||
			re.Status >= 500 && re.Status != http.StatusNotImplemented && re.Status != http.StatusHTTPVersionNotSupported
	}
	return transient(err)
}

// attempt sends a request once: twice if it has to show a token.
func (o *origin) attempt(ctx context.Context, req *request, b *budget) (*http.Response, error) {
	if err := o.settle(ctx, req); err != nil {
		return nil, err
	}
	for challenged := false; ; challenged = true {
		u, err := o.target(req)
		if err != nil {
			return nil, err
		}
		authorization := ""
		if o.owns(u) {
			if authorization, err = o.auth.header(ctx, req); err != nil {
				return nil, err
			}
		}
		resp, err := o.follow(ctx, req, u, authorization, b)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusUnauthorized && !challenged && o.owns(resp.Request.URL) {
			again, err := o.auth.challenged(ctx, req, authorization, resp.Header)
			if err != nil {
				return nil, errors.Join(err, resp.Body.Close())
			}
			if again {
				if err := drain(resp); err != nil {
					return nil, err
				}
				continue
			}
		}
		if slices.Contains(req.want, resp.StatusCode) {
			return resp, nil
		}
		defer resp.Body.Close()
		re := responseError(req.name, o.name, resp)
		if wait := retryAfter(resp.Header); wait > 0 {
			return nil, &waitError{ResponseError: re, wait: wait}
		}
		return nil, re
	}
}

// maxRedirects is as many as curl, browsers and Go follow, more or less.
const maxRedirects = 10

// follow sends a request and goes where reads are redirected to, leaving the credentials behind at the origin's border.
func (o *origin) follow(ctx context.Context, req *request, u *url.URL, authorization string, b *budget) (*http.Response, error) {
	for range maxRedirects {
		if !o.owns(u) {
			authorization = "" // and it does not come back if the way leads home again
		}
		resp, err := o.send(ctx, req, u, authorization, b)
		if err != nil {
			return nil, err
		}
		if !isRedirect(resp) || req.body != nil {
			return resp, nil
		}
		next, err := u.Parse(resp.Header.Get("Location"))
		if cerr := drain(resp); cerr != nil {
			return nil, cerr
		}
		if err != nil {
			return nil, fmt.Errorf("%s redirects to no address: %w", u.Host, errRefused)
		}
		if err := o.allowURL(u, next); err != nil {
			return nil, err
		}
		u = next
	}
	return nil, fmt.Errorf("more than %d redirects: %w", maxRedirects, errRefused)
}

func isRedirect(resp *http.Response) bool {
	if resp.Header.Get("Location") == "" {
		return false
	}
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// allowURL refuses to be sent by from to a place that is less safe.
func (o *origin) allowURL(from, to *url.URL) error {
	to.User = nil
	switch {
	case to.Host == "" || to.Scheme != "https" && to.Scheme != "http":
		return fmt.Errorf("%s sends forge to a place that is not http: %w", o.name, errRefused)
	case to.Scheme == "http" && from.Scheme == "https" && !o.insecure:
		return fmt.Errorf("%s sends forge from https to http: %w", o.name, errRefused)
	}
	return nil
}

// owns tells whether u is the origin itself, to which credentials may be shown.
func (o *origin) owns(u *url.URL) bool {
	return u.Scheme == o.currentScheme() && o.isHome(u)
}

func withPort(scheme, host string) string {
	if strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']') {
		return host
	}
	return host + map[string]string{"https": ":443", "http": ":80"}[scheme]
}

func (o *origin) currentScheme() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.scheme
}

func (o *origin) target(req *request) (*url.URL, error) {
	if req.url != nil {
		return req.url, nil
	}
	return url.Parse(o.currentScheme() + "://" + o.host + req.path)
}

// settle finds out, once, whether a registry that may speak http does: TLS is tried first, and only an answer that is
// plainly http, or for an insecure one also a closed port, makes it plain.
func (o *origin) settle(ctx context.Context, req *request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.scheme != "" {
		return nil
	}
	b := newBudget(o.limits, nil)
	ping := &request{method: http.MethodGet, name: req.name}
	u := &url.URL{Scheme: "https", Host: o.host, Path: "/v2/"}
	resp, err := o.send(ctx, ping, u, "", b)
	if err == nil {
		o.scheme = "https"
		return drain(resp)
	}
	if rec := (tls.RecordHeaderError{}); !errors.As(err, &rec) && !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return err
	}
	if o.zone.Load() != int32(zoneLoopback) && !o.insecure {
		return errPlain
	}
	o.scheme = "http"
	return nil
}

func (o *origin) closeIdle() {
	o.home.CloseIdleConnections()
	o.away.CloseIdleConnections()
}

// drain closes an answer whose body says nothing, so that its connection can be used again.
func drain(resp *http.Response) error {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
	return resp.Body.Close()
}
