package web

import (
	"net/http"
	"os"
	"os/exec"
	"testing"
)

// TestDirect: a client that is Direct uses no proxy. Proxies are read once a process, so it runs in another.
func TestDirect(t *testing.T) {
	t.Parallel()
	if os.Getenv("HTTP_PROXY") != "http://192.0.2.1:1" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestDirect$")
		cmd.Env = append(os.Environ(), "HTTP_PROXY=http://192.0.2.1:1", "http_proxy=", "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	r, err := http.NewRequest(http.MethodGet, "http://169.254.169.254/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := New(r.Host, Options{}).proxy(r); err != nil || u == nil {
		t.Errorf("proxy = %v, %v, and there is one", u, err)
	}
	if u, err := New(r.Host, Options{Direct: true}).proxy(r); err != nil || u != nil {
		t.Errorf("proxy of a direct client = %v, %v", u, err)
	}
}
