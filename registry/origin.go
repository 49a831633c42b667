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
	"sync"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/web"
)

// An origin is a registry's scheme, host and port: what credentials belong to.
type origin struct {
	name     string // as people and credential files say: docker.io
	host     string // host[:port] that speaks the protocol: registry-1.docker.io
	insecure bool
	offline  bool
	limits   web.Limits
	events   event.Sink // takes a note before each new try
	conf     *config
	auth     *authorizer
	client   *web.Client

	mu     sync.Mutex // guards scheme
	scheme string     // "" until a loopback or insecure registry was heard
}

// newClient returns the HTTP client of an origin.
func (o *origin) newClient(userAgent string) (*web.Client, error) {
	conf, err := o.conf.tls(o.host)
	if err != nil {
		return nil, err
	}
	opts := web.Options{Limits: o.limits, UserAgent: userAgent, Peer: "registry", TLS: conf}
	if o.insecure {
		conf.InsecureSkipVerify = true
		opts.Downgrade = web.DowngradeAllowed
	}
	return web.New(o.host, opts), nil
}

// An access is what the bearer of a token may do.
type access struct {
	repo   string   // at the origin, for its credentials
	scopes []string // as in the token specification of Docker's registry: repository:name:pull
}

// A request is what is asked of an origin, or of a place that it named.
type request struct {
	name   string // what is asked for, in messages
	access access
	method string
	path   string   // on the origin, with query; ignored if url is set
	url    *url.URL // of an upload, which may be of another origin: it gets no credentials then
	header http.Header
	body   func() (io.ReadCloser, error) // called for each try; nil for none
	size   int64                         // of the body; -1 if not known
	sent   int64                         // bytes that were sent before and that the answer is about
	want   []int                         // statuses that are a success
}

var errPlain = errors.New("speaks http, not https")

// do sends a request, within a budget of its own, until it is answered as wanted. The body of the answer is to be closed.
func (o *origin) do(ctx context.Context, req *request) (*http.Response, error) {
	return o.retry(ctx, req, web.NewBudget(o.limits))
}

// retry is do with the caller's budget.
func (o *origin) retry(ctx context.Context, req *request, b *web.Budget) (*http.Response, error) {
	for {
		resp, err := o.once(ctx, req, b)
		if err == nil || ctx.Err() != nil || !web.Retryable(err) {
			return resp, err
		}
		if err := o.wait(ctx, b, err); err != nil {
			return nil, err
		}
	}
}

// delayShown is how exactly people are told how long a wait is.
const delayShown = 100 * time.Millisecond

// wait sleeps before the next try after err, of which it sends a note, or returns why there is none.
func (o *origin) wait(ctx context.Context, b *web.Budget, err error) error {
	delay, final := b.Retry(err)
	if final != nil {
		return final
	}
	n, of := b.Try()
	o.events.Send(event.Event{Time: time.Now(), Kind: event.Note, Text: fmt.Sprintf("trying again in %s (%d of %d): %v",
		delay.Round(delayShown), n, of, err)})
	return web.Sleep(ctx, delay)
}

// once sends a request without another try: whether there is one is the caller's to say.
func (o *origin) once(ctx context.Context, req *request, b *web.Budget) (*http.Response, error) {
	if o.offline {
		return nil, fmt.Errorf("%s %w", req.name, web.ErrOffline)
	}
	resp, err := o.answer(ctx, req, b)
	if err == nil && slices.Contains(req.want, resp.StatusCode) {
		return resp, nil
	}
	if err == nil {
		defer resp.Body.Close()
		return nil, web.Refused(refusal(req.name, o.name, resp), resp)
	}
	if !answered(err) { // not of a token service either, which says enough
		err = &requestError{Name: req.name, Err: err, hint: hintFor(err, o.host)}
	}
	return nil, err
}

// answer gets the answer to a request: to a second one if the registry asks for a token after the first.
func (o *origin) answer(ctx context.Context, req *request, b *web.Budget) (*http.Response, error) {
	if err := o.detectScheme(ctx); err != nil {
		return nil, err
	}
	resp, authorization, err := o.roundTrip(ctx, req, b)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !o.owns(resp.Request.URL) {
		return resp, err
	}
	again, err := o.auth.challenged(ctx, req.access, authorization, resp.Header)
	if err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	if !again {
		return resp, nil
	}
	if err := web.Drain(resp); err != nil {
		return nil, err
	}
	resp, _, err = o.roundTrip(ctx, req, b)
	return resp, err
}

// roundTrip sends a request with the Authorization that is known so far, which it returns.
func (o *origin) roundTrip(ctx context.Context, req *request, b *web.Budget) (resp *http.Response, authorization string, err error) {
	u := req.url
	if u == nil {
		if u, err = url.Parse(o.currentScheme() + "://" + o.host + req.path); err != nil {
			return nil, "", err
		}
	}
	if o.owns(u) {
		if authorization, err = o.auth.header(ctx, req.access); err != nil {
			return nil, "", err
		}
	}
	resp, err = o.client.Follow(ctx, &web.Request{
		Method: req.method, URL: u, Header: req.header, Authorization: authorization, Body: req.body, Size: req.size, Sent: req.sent,
	}, b)
	return resp, authorization, err
}

// owns reports whether u is the origin itself, to which credentials may be shown.
func (o *origin) owns(u *url.URL) bool {
	return u.Scheme == o.currentScheme() && o.client.IsHome(u)
}

func (o *origin) currentScheme() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.scheme
}

// detectScheme finds out, once, whether a registry that may speak http does: TLS is tried first, and only an answer that is
// plainly http makes it plain.
func (o *origin) detectScheme(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.scheme != "" {
		return nil
	}
	ping := &web.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: o.host, Path: "/v2/"}}
	resp, err := o.client.Send(ctx, ping, web.NewBudget(o.limits))
	if err == nil {
		o.scheme = "https"
		return web.Drain(resp)
	}
	if rec := (tls.RecordHeaderError{}); !errors.As(err, &rec) && !errors.Is(err, http.ErrSchemeMismatch) {
		return err
	}
	if !o.client.IsLocal() && !o.insecure {
		return errPlain
	}
	o.scheme = "http"
	return nil
}
