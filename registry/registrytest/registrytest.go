// Package registrytest is a registry that misbehaves on command, and images to put in it.
package registrytest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/server"
)

// A Registry is a good registry behind faults.
type Registry struct {
	*httptest.Server
	Root string // of its store

	mu     sync.Mutex // guards what is below
	faults []*Fault
	log    []Request
}

// A Request is one that came.
type Request struct {
	Method, Path, Query  string
	Authorization, Range string
	Length               int64 // of the body; -1 if chunked
}

// A Fault is what happens to some requests.
type Fault struct {
	Method string // "" is any
	Path   string // part of the path; "" is any
	Times  int    // how many requests meet it; 0 is all
	Do     func(w http.ResponseWriter, r *http.Request, next http.Handler)
	met    int
}

// New starts a registry on a loopback port, without TLS.
func New(t testing.TB) *Registry {
	t.Helper()
	r := newRegistry(t, server.Options{})
	r.Start()
	return r
}

// NewTLS starts a registry with TLS, HTTP/2 and a certificate that nobody has signed.
func NewTLS(t testing.TB) *Registry {
	t.Helper()
	r := newRegistry(t, server.Options{})
	r.EnableHTTP2 = true
	r.StartTLS()
	return r
}

// NewAuth starts a registry that asks for a user of the htpasswd file.
func NewAuth(t testing.TB, htpasswd string) *Registry {
	t.Helper()
	r := newRegistry(t, server.Options{Htpasswd: htpasswd})
	r.Start()
	return r
}

func newRegistry(t testing.TB, opts server.Options) *Registry {
	t.Helper()
	opts.Root = t.TempDir()
	s, err := server.New(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{Root: opts.Root}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if f := r.note(req); f != nil {
			f.Do(w, req, s)
			return
		}
		s.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// note logs a request and finds the fault that it meets.
func (r *Registry) note(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, Request{
		req.Method, req.URL.Path, req.URL.RawQuery,
		req.Header.Get("Authorization"), req.Header.Get("Range"), req.ContentLength,
	})
	for _, f := range r.faults {
		if f.Method != "" && f.Method != req.Method || !strings.Contains(req.URL.Path, f.Path) || f.Times > 0 && f.met >= f.Times {
			continue
		}
		f.met++
		return f
	}
	return nil
}

// Fault adds a fault.
func (r *Registry) Fault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Reset forgets faults and requests.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults, r.log = nil, nil
}

// Requests are those that came, of a method ("" is any) and with a part in their path.
func (r *Registry) Requests(method, path string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.log), func(q Request) bool {
		return method != "" && q.Method != method || !strings.Contains(q.Path, path)
	})
}

// Host is host:port of the registry.
func (r *Registry) Host() string { return r.Listener.Addr().String() }

// Ref names an image in the registry.
func (r *Registry) Ref(t testing.TB, name string) image.Reference {
	t.Helper()
	return Ref(t, r.Host()+"/"+name)
}

// Ref parses a reference.
func Ref(t testing.TB, name string) image.Reference {
	t.Helper()
	ref, err := image.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// DockerRegistry starts Debian's docker-registry on a loopback port and returns host:port. auth is its auth section, "" for
// none. The test is skipped where the program is missing, unless FORGE_TEST_MUST names docker-registry.
func DockerRegistry(t testing.TB, auth string) string {
	t.Helper()
	need(t, "docker-registry")
	addr := freePort(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.yml")
	text := "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n" +
		"storage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: " + dir + "/data\n" +
		"http:\n  addr: " + addr + "\n  secret: test\n" + auth
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", conf)
	cmd.Env = []string{} // it takes any REGISTRY_* for its configuration
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, "http://"+addr+"/v2/")
	return addr
}

func freePort(t testing.TB) string {
	t.Helper()
	l := httptest.NewServer(nil)
	defer l.Close()
	return l.Listener.Addr().String()
}

func waitFor(t testing.TB, url string) {
	t.Helper()
	for range 200 {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("%s does not come up", url)
}
