package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/forge-build/forge/event"
)

// TestWrongLoginsAreLimited holds that a peer that guesses has to wait, that others need not, and that neither has who is known.
func TestWrongLoginsAreLimited(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("known:"+string(hash)+"\nother:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Options{Root: t.TempDir(), Htpasswd: file})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(peer, name, password string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr = peer
		r.SetBasicAuth(name, password)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	want := func(what string, w *httptest.ResponseRecorder, status int) {
		t.Helper()
		if w.Code != status {
			t.Errorf("%s: %d, want %d", what, w.Code, status)
		}
	}
	want("before", ask("192.0.2.1:1", "known", "right"), 200)
	for i := range maxFailures {
		want("a guess", ask(fmt.Sprintf("192.0.2.1:%d", i), "known", "wrong"), 401)
	}
	w := ask("192.0.2.1:9", "other", "right")
	want("after the guesses", w, 429)
	if w.Header().Get("Retry-After") != "60" || !strings.Contains(w.Body.String(), "wait a minute") {
		t.Errorf("refused with %v %s", w.Header(), w.Body)
	}
	want("who is known", ask("192.0.2.1:9", "known", "right"), 200)
	want("another peer", ask("192.0.2.2:9", "other", "right"), 200)

	var f failures
	now := time.Now()
	for i := range maxFailures {
		f.add(peerOf(fmt.Sprintf("[2001:db8::%x]:1", i)), now)
	}
	if !f.tooMany(peerOf("[2001:db8::ffff]:2"), now) || f.tooMany(peerOf("[2001:db8:0:1::1]:2"), now) {
		t.Error("a network of IPv6 is not one peer")
	}
	if f.tooMany(peerOf("[2001:db8::1]:2"), now.Add(failuresTime)) {
		t.Error("a minute later it still has to wait")
	}
	for i := range 3 * maxPeers {
		f.add(peerOf(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)), now)
	}
	if len(f.peers) > maxPeers {
		t.Errorf("%d peers are remembered", len(f.peers))
	}
}

// TestTidy holds that a start removes blobs without a manifest when they are old, and goes on beside a repository that is damaged.
func TestTidy(t *testing.T) {
	t.Parallel()
	var said []string
	s, err := New(t.Context(), Options{Root: t.TempDir(), Events: func(e event.Event) {
		if e.Kind == event.Warning {
			said = append(said, e.Text)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(method, path, body string) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code
	}
	blob := digest.FromString("loose").String()
	if code := ask(http.MethodPost, "/v2/a/blobs/uploads/?digest="+blob, "loose"); code != 201 {
		t.Fatalf("upload: %d", code)
	}
	ctx := context.Background()
	if err := s.tidy(ctx); err != nil || ask(http.MethodHead, "/v2/a/blobs/"+blob, "") != 200 {
		t.Errorf("a young blob went: %v", err)
	}
	if err := s.store.pruneRepository(ctx, "a", time.Now().Add(time.Hour)); err != nil || ask(http.MethodHead, "/v2/a/blobs/"+blob, "") != 404 {
		t.Errorf("an old blob stayed: %v", err)
	}
	if err := os.MkdirAll(s.store.in("a", "_manifests"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.store.in("a", "_manifests", strings.Repeat("0", 64)), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.tidy(ctx); err != nil || len(said) != 1 || !strings.HasPrefix(said[0], "repository a: ") {
		t.Errorf("a damaged repository: %v, %q", err, said)
	}
}
