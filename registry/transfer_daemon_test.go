package registry_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/registrytest"
)

// A dockerDaemon keeps one archive, as docker's daemon would keep what it is given.
type dockerDaemon struct {
	mu      sync.Mutex
	archive []byte
	answer  string // to a load
}

func (d *dockerDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/images/load":
		d.archive, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, d.answer)
	case r.Method == http.MethodGet && r.URL.Path == "/images/team/app:1/get" && d.archive != nil:
		_, _ = w.Write(d.archive)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"reference does not exist"}`)
	}
}

// What docker's daemon has is copied out of it and into it, over the socket of DOCKER_HOST, whatever proxy there is.
func TestTransferDaemon(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &dockerDaemon{answer: `{"stream":"Loaded image: team/app:1\n"}`}
	srv := httptest.NewUnstartedServer(daemon)
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 300_000, 1000)

	if _, err := transfer(t, "oci:"+dir+"/none", "docker-daemon:team/app:1"); err == nil || !strings.Contains(err.Error(), "reference does not exist") {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := transfer(t, "docker-daemon:team/app:1", ref.String()); err != nil {
		t.Fatal(err)
	}
	d, err := transfer(t, "oci:"+dir+"/back:1", "docker-daemon:team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	back, err := image.OpenDir(dir + "/back")
	if err != nil {
		t.Fatal(err)
	}
	if img, err := image.Read(t.Context(), back, d, nil); err != nil || len(img.Manifest.Layers) != 2 {
		t.Errorf("what came back: %v, %v", img, err)
	}
	daemon.mu.Lock()
	daemon.answer = `{"errorDetail":{"message":"no space left"},"error":"no space left"}`
	daemon.mu.Unlock()
	if _, err := transfer(t, "docker-daemon:team/app:1", ref.String()); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a load that fails: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for host, want := range map[string]string{"unix:///nosuch": "unix:///nosuch", "ssh://x": "must be unix:///PATH or tcp://HOST:PORT", "unix://x": "must be unix:///PATH"} {
		t.Setenv("DOCKER_HOST", host)
		if _, err := transfer(t, "oci:"+dir+"/x", "docker-daemon:team/app:1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
	}
}
