package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// quick are limits that try again at once, and wait as long as a busy machine takes.
var quick = Limits{Headers: time.Minute, Idle: time.Minute, GiveUp: time.Minute, Backoff: time.Millisecond}

func get(ctx context.Context, t *testing.T, address string, o Options) (string, error) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	c := New(u.Host, o)
	defer c.Close() //nolint:errcheck
	b := NewBudget(o.Limits)
	var text []byte
	err = b.Until(ctx, func() error {
		resp, err := c.Follow(ctx, &Request{Method: http.MethodGet, URL: u, Authorization: "Basic eDp5"}, b)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return Refused(errors.New(resp.Status), resp)
		}
		text, err = io.ReadAll(resp.Body)
		return err
	})
	return string(text), err
}

// TestTries holds what is tried again, how often, and with which outcome.
func TestTries(t *testing.T) {
	status := func(code int, header ...string) func(int32, http.ResponseWriter) {
		return func(_ int32, w http.ResponseWriter) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	until := func(n int32, do func(int32, http.ResponseWriter)) func(int32, http.ResponseWriter) {
		return func(i int32, w http.ResponseWriter) {
			if i < n {
				do(i, w)
			}
		}
	}
	cut := func(_ int32, w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
	}
	past := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for _, test := range []struct {
		name   string
		answer func(n int32, w http.ResponseWriter)
		tries  int32
		want   string // "" is success
	}{
		{"at once", until(0, nil), 1, ""},
		{"408", until(2, status(408)), 2, ""},
		{"busy twice", until(3, status(503)), 3, ""},
		{"too many requests", until(2, status(429, "Retry-After", "1")), 2, ""},
		{"a time in the past", until(2, status(503, "Retry-After", past)), 2, ""},
		{"nonsense in Retry-After", until(2, status(503, "Retry-After", "soon")), 2, ""},
		{"longer than our patience", status(429, "Retry-After", "3600"), 1, "429 Too Many Requests (given up after 1 tries"},
		{"cut off", until(2, cut), 2, ""},
		{"cut off for ever", cut, 6, "unexpected EOF (given up after 6 tries)"},
		{"busy for ever", status(500), 6, "500 Internal Server Error (given up after 6 tries)"},
		{"missing", status(404), 1, "404 Not Found"},
		{"forbidden", status(403, "Retry-After", "1"), 1, "403 Forbidden"},
		{"partial", status(206), 1, "206"},
		{"not modified since never", status(304), 1, "304"},
		{"not implemented", status(501), 1, "501"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.answer(n.Add(1), w) }))
			defer s.Close()
			_, err := get(t.Context(), t, s.URL, Options{Limits: quick})
			if got := n.Load(); got != test.tries || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d tries, %v; want %d, %q", got, err, test.tries, test.want)
			}
		})
	}
}

// TestBodies holds which bodies are waited for: those in which bytes come, unless they come for ever and next to none.
func TestBodies(t *testing.T) {
	long(t)
	drip := func(n, size int, every time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for range n {
				if _, err := w.Write(make([]byte, size)); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				select {
				case <-time.After(every):
				case <-r.Context().Done():
					return
				}
			}
		}
	}
	const idle = 800 * time.Millisecond
	for _, test := range []struct {
		name string
		do   http.HandlerFunc
		want string
	}{
		{"few bytes, for longer than may pass without any", drip(9, 10, idle/4), ""},
		{"more than the least in each window", drip(25, minMoved/4, idle/3), ""},
		{"a byte now and then for ever", drip(10000, 1, idle/10), "is too slow: fewer than 4096 bytes in 4s"},
		{"silence in the body", drip(2, 10, time.Hour), "sends nothing more"},
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "does not answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(test.do)
			defer s.Close()
			limits := Limits{Headers: idle, Idle: idle, GiveUp: 5 * idle, Tries: 1}
			_, err := get(t.Context(), t, s.URL, Options{Limits: limits})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), "the server "+test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[string]
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		seen.Store(&got)
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		seen.Store(&got)
		switch r.URL.Path {
		case "/once":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/ever":
			http.Redirect(w, r, "/ever", http.StatusTemporaryRedirect)
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusPermanentRedirect)
		case "/back":
			http.Redirect(w, r, other.URL+"?to=http://"+r.Host+"/end", http.StatusFound)
		case "/private":
			http.Redirect(w, r, "http://10.0.0.1/", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}
	}))
	defer s.Close()
	for _, test := range []struct{ path, want, authorization string }{
		{"/once", "", "Basic eDp5"},
		{"/ever", "more than 10 redirects", ""},
		{"/away", "", ""},
		{"/back", "", ""},
		{"/private", "the private address 10.0.0.1", ""},
		{"/file", "not http", ""},
	} {
		_, err := get(t.Context(), t, s.URL+test.path, Options{Limits: quick})
		if test.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want)) || test.want == "" && err != nil {
			t.Errorf("%s: %v, want %q", test.path, err, test.want)
		}
		if got := *seen.Load(); test.want == "" && got != test.authorization {
			t.Errorf("%s: the last server saw Authorization %q, want %q", test.path, got, test.authorization)
		}
	}
}

// TestFollowHeaders holds that a server that is redirected to learns what is read, and nothing of who reads it.
func TestFollowHeaders(t *testing.T) {
	t.Parallel()
	var seen http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/here":
			http.Redirect(w, r, "/end", http.StatusTemporaryRedirect)
		default:
			seen = r.Header
		}
	}))
	defer s.Close()
	for path, token := range map[string]string{"/here": "secret", "/away": ""} {
		u, err := url.Parse(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		c := New(u.Host, Options{Limits: quick})
		header := http.Header{"Accept": {"a/b"}, "Range": {"bytes=1-"}, "X-Amz-Security-Token": {"secret"}}
		resp, err := c.Follow(t.Context(), &Request{Method: http.MethodGet, URL: u, Header: header}, NewBudget(quick))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(Drain(resp), c.Close()); err != nil {
			t.Fatal(err)
		}
		if got := seen.Get("X-Amz-Security-Token"); got != token || seen.Get("Range") != "bytes=1-" || seen.Get("Accept") != "a/b" {
			t.Errorf("%s: the last server saw %v, want the token %q", path, seen, token)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := get(ctx, t, s.URL, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: %v", err)
	}
}

// TestSentBody holds that an error of the source is told as it is, and not tried again.
func TestSentBody(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	req := &Request{Method: http.MethodPut, URL: u, Size: -1, Body: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("x"), readError{broken})), nil
	}}
	_, err = New(u.Host, Options{}).Send(t.Context(), req, NewBudget(quick))
	if !errors.Is(err, broken) || Retryable(err) {
		t.Errorf("%v, may be tried again: %v", fmt.Sprint(err), Retryable(err))
	}
}

type readError struct{ err error }

func (r readError) Read([]byte) (int, error) { return 0, r.err }

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}

// TestTry holds that a budget knows which try comes next, and begins anew after progress.
func TestTry(t *testing.T) {
	t.Parallel()
	b := NewBudget(Limits{Tries: 3})
	if n, of := b.Try(); n != 1 || of != 3 {
		t.Errorf("at first %d of %d", n, of)
	}
	if _, err := b.Retry(errors.New("x")); err != nil {
		t.Fatal(err)
	}
	if n, of := b.Try(); n != 2 || of != 3 {
		t.Errorf("after a failure %d of %d", n, of)
	}
	b.Progress(time.Now())
	if n, _ := b.Try(); n != 1 {
		t.Errorf("after progress %d", n)
	}
}
