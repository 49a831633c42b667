package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// A Request is what is asked of a server.
type Request struct {
	Method        string
	URL           *url.URL // without name and password
	Header        http.Header
	Authorization string                        // shown to the server of URL only
	Body          func() (io.ReadCloser, error) // called for each try; nil for none
	Size          int64                         // of the body; -1 if not known
	Sent          int64                         // bytes that were sent before and that the answer is about
}

// Send sends a request once and follows no redirect. Answer and body have deadlines; the budget's limits and what is left
// of it decide which. The answer's body is to be closed.
func (c *Client) Send(ctx context.Context, req *Request, b *Budget) (*http.Response, error) {
	tctx, cancel := context.WithCancelCause(ctx)
	hr, err := c.httpRequest(tctx, req)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	w := &watch{cancel: cancel, peer: c.opts.Peer}
	defer w.retire()
	var out *sentBody
	if hr.Body != nil && hr.Body != http.NoBody {
		out = &sentBody{r: hr.Body, w: w, b: b}
		hr.Body = out
	}
	w.start(b.answerTime(req.Sent), "the "+c.opts.Peer+" does not answer")
	transport := c.away
	if c.IsHome(req.URL) {
		transport = c.home
	}
	resp, err := transport.RoundTrip(hr)
	if err != nil {
		err = &ConnError{stalled(tctx, withoutURL(err))}
		cancel(nil)
		if ours := out.failure(); ours != nil {
			return nil, ours
		}
		return nil, err
	}
	in := &watch{cancel: cancel, peer: c.opts.Peer}
	in.set(b.atMost(b.limits.Idle), b.atMost(b.limits.GiveUp))
	resp.Body = &receivedBody{r: resp.Body, w: in, ctx: tctx}
	return resp, nil
}

func (c *Client) httpRequest(ctx context.Context, req *Request) (*http.Request, error) {
	var body io.ReadCloser
	if req.Body != nil {
		var err error
		if body, err = req.Body(); err != nil {
			return nil, err
		}
	}
	hr, err := http.NewRequestWithContext(ctx, req.Method, req.URL.String(), nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	if body != nil {
		hr.Body, hr.ContentLength = body, req.Size
		if req.Size == 0 {
			hr.Body = http.NoBody
		}
	}
	for k, v := range req.Header {
		hr.Header[k] = v
	}
	hr.Header.Set("User-Agent", c.opts.UserAgent)
	if req.Authorization != "" {
		hr.Header.Set("Authorization", req.Authorization)
	}
	return hr, nil
}

// maxRedirects is as many as curl, browsers and Go follow, more or less.
const maxRedirects = 10

// Follow sends a request and goes where reads are redirected to. The Authorization, and headers that may be part of it, such as those of a
// signature or the token of a session, stay with the origin (scheme, host and port) of the request: they are sent to no other, and not again
// if the way leads back.
func (c *Client) Follow(ctx context.Context, req *Request, b *Budget) (*http.Response, error) {
	to := *req
	for range maxRedirects + 1 {
		resp, err := c.Send(ctx, &to, b)
		if err != nil {
			return nil, err
		}
		if !isRedirect(resp) || req.Body != nil {
			return resp, nil
		}
		next, err := to.URL.Parse(resp.Header.Get("Location"))
		if cerr := Drain(resp); cerr != nil {
			return nil, cerr
		}
		if err != nil {
			return nil, fmt.Errorf("%s redirects to no address: %w", to.URL.Host, ErrRefused)
		}
		if err := c.Allow(to.URL, next); err != nil {
			return nil, err
		}
		if !sameOrigin(next, to.URL) {
			to.Authorization, to.Header = "", whatIsWanted(to.Header)
		}
		to.URL = next
	}
	return nil, fmt.Errorf("more than %d redirects: %w", maxRedirects, ErrRefused)
}

// whatIsWanted are those of a request's headers that say what is read, and not who reads it.
func whatIsWanted(h http.Header) http.Header {
	said := http.Header{}
	for _, name := range []string{"Accept", "Range", "If-None-Match", "If-Modified-Since"} {
		if values, ok := h[name]; ok {
			said[name] = values
		}
	}
	return said
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && withPort(a.Scheme, a.Host) == withPort(b.Scheme, b.Host)
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
