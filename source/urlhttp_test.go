package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestFetchURL holds which answers are taken and which errors are tried again; package web holds how often.
func TestFetchURL(t *testing.T) {
	broken := errors.New("the disk is full")
	for _, test := range []struct {
		name   string
		answer func(n int32, w http.ResponseWriter)
		tries  int32
		want   string // "" is success
	}{
		{"busy once", func(n int32, w http.ResponseWriter) {
			if n < 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}, 2, ""},
		{"cut off", func(n int32, w http.ResponseWriter) {
			if n < 2 {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "short")
			}
		}, 2, ""},
		{"missing", func(_ int32, w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, 1, "404 Not Found"},
		{"partial", func(_ int32, w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent) }, 1, "206"},
		{"not modified since never", func(_ int32, w http.ResponseWriter) { w.WriteHeader(http.StatusNotModified) }, 1, "304"},
		{"an error of ours", func(_ int32, w http.ResponseWriter) { w.Header().Set("X-Full", "1") }, 1, broken.Error()},
		{"a redirect that leads inwards", func(_ int32, w http.ResponseWriter) {
			w.Header().Set("Location", "http://169.254.169.254/")
			w.WriteHeader(http.StatusFound)
		}, 1, "link-local address 169.254.169.254, which is refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.answer(n.Add(1), w) }))
			defer s.Close()
			err := fetchURL(context.Background(), s.URL, Download{}, func(r *http.Response) error {
				if r.Header.Get("X-Full") != "" {
					return broken
				}
				_, err := io.Copy(io.Discard, r.Body)
				return err
			})
			if got := n.Load(); got != test.tries || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%d tries, %v; want %d, %q", got, err, test.tries, test.want)
			}
		})
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(broken)
		<-r.Context().Done()
	}))
	defer s.Close()
	if err := fetchURL(ctx, s.URL, Download{}, nil); !errors.Is(err, broken) {
		t.Errorf("a server that never answers: %v, want the reason of the cancellation", err)
	}
}
