package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// nobody is a listener that nobody connects to.
type nobody struct {
	once sync.Once
	done chan struct{} // is closed by Close
}

func (l *nobody) Accept() (net.Conn, error) {
	<-l.done
	return nil, net.ErrClosed
}

func (l *nobody) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *nobody) Addr() net.Addr { return &net.TCPAddr{} }

// ask answers one request without a connection.
func ask(s *Server, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

// TestUploadsThatRest holds that a server that runs forgets uploads that nobody goes on with, and no others.
func TestUploadsThatRest(t *testing.T) {
	t.Parallel()
	s, err := New(t.Context(), Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin := func(repo string) *session {
		u, err := s.begin(repo)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	old, fresh, busy, unknown := begin("a"), begin("a"), begin("b/c"), begin("b/c")
	at := time.Now().Add(-staleUpload - time.Hour)
	for _, u := range []*session{old, busy, unknown} {
		if err := os.Chtimes(u.path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	<-busy.turn                        // as a request does that writes to it
	delete(s.uploads.open, unknown.id) // as if another process had begun it
	if err := s.dropStale(time.Now()); err != nil {
		t.Error(err)
	}
	busy.turn <- struct{}{}
	for u, want := range map[*session]int{old: 404, unknown: 404, fresh: 204, busy: 204} {
		if w := ask(s, "GET", uploadLocation(u.repo, u.id), ""); w.Code != want {
			t.Errorf("%s: HTTP %d, want %d", u.path, w.Code, want)
		}
		if _, err := os.Stat(u.path); (err == nil) != (want == 204) {
			t.Errorf("%s: %v", u.path, err)
		}
	}
	if len(s.uploads.open) != 2 {
		t.Errorf("%d sessions are known", len(s.uploads.open))
	}
}

// begun is a server to which somebody uploads to repository a.
func begun(t *testing.T) (*Server, *session) {
	t.Helper()
	s, err := New(t.Context(), Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	u, err := s.begin("a")
	if err != nil {
		t.Fatal(err)
	}
	return s, u
}

// TestUploadsAreDroppedEachHour holds that a server looks for such uploads while it runs.
func TestUploadsAreDroppedEachHour(t *testing.T) {
	t.Parallel()
	s, u := begun(t)
	if err := os.Chtimes(u.path, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		l := &nobody{done: make(chan struct{})}
		go func() { ended <- s.Serve(ctx, l) }()
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if _, err := os.Stat(u.path); err == nil {
			t.Error("the upload is still there")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestUploadsAreBounded holds that a client that begins uploads and finishes none is told to stop, and that others come in when
// one is finished.
func TestUploadsAreBounded(t *testing.T) {
	t.Parallel()
	s, u := begun(t)
	for i := range maxUploads - 1 {
		s.uploads.open[fmt.Sprint(i)] = u
	}
	if w := ask(s, "POST", "/v2/a/blobs/uploads/", ""); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "TOOMANYREQUESTS") {
		t.Errorf("one upload more: HTTP %d %s", w.Code, w.Body)
	}
	if w := ask(s, "DELETE", uploadLocation("a", u.id), ""); w.Code != http.StatusNoContent {
		t.Errorf("DELETE: HTTP %d", w.Code)
	}
	if w := ask(s, "POST", "/v2/a/blobs/uploads/", ""); w.Code != http.StatusAccepted {
		t.Errorf("an upload after one was given up: HTTP %d %s", w.Code, w.Body)
	}
}
