package registry_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestCompanyAuthority holds that who signs a registry's certificate may sign those of its token service and of its storage, too: a
// company has one authority, and people name it once, for the registry.
func TestCompanyAuthority(t *testing.T) {
	long(t)
	home := registrytest.Home(t)
	r := registrytest.NewTLS(t)
	trust(t, home, r.Server)
	src, _ := put(t, r.Ref(t, "app:1"), 1, 1000)
	tokens := &tokenService{}
	token := httptest.NewTLSServer(tokens)
	defer token.Close()
	tokens.realm = token.URL + "/token"
	storage := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Config.Handler.ServeHTTP(w, req)
	}))
	defer storage.Close()
	var moved atomic.Int32
	r.Fault(fault{Method: "GET", Path: "/blobs/", Do: func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Host == storage.Listener.Addr().String() {
			next.ServeHTTP(w, req)
			return
		}
		moved.Add(1)
		http.Redirect(w, req, storage.URL+req.URL.Path, http.StatusTemporaryRedirect)
	}})
	r.Fault(fault{Path: "/manifests/", Do: tokens.guard})
	dst, err := pull(t.Context(), connect(t, r.Ref(t, "app:1"), registry.Options{}), registry.CopyOptions{})
	if err != nil || dst.Len() != src.Len() || moved.Load() == 0 || tokens.given == 0 {
		t.Errorf("pulled %d blobs, %d from the storage, with %d tokens, %v; want %d", dst.Len(), moved.Load(), tokens.given, err, src.Len())
	}
}

// TestFlakyLine holds that a line which breaks again and again is used as long as it brings something each time.
func TestFlakyLine(t *testing.T) {
	long(t)
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src, d := put(t, ref, 1, 2<<20)
	layer := manifestOf(t, src, d).Layers[0].Digest
	r.Fault(fault{Method: "GET", Path: layer.String(), Do: registrytest.Cut(100 << 10)})
	limits := quick
	limits.Tries = 3
	dst, err := pull(t.Context(), connect(t, ref, registry.Options{Limits: limits}), registry.CopyOptions{})
	if err != nil || dst.Len() != src.Len() {
		t.Errorf("pulled %d blobs, %v; want %d", dst.Len(), err, src.Len())
	}
	if got := len(r.Requests("GET", layer.String())); got < 20 {
		t.Errorf("%d requests for a blob of twenty pieces", got)
	}
}
