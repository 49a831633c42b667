package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

func TestMirrors(t *testing.T) {
	home := registrytest.Home(t)
	mirror, origin := registrytest.New(t), registrytest.New(t)
	real := origin.Ref(t, "hub/app:1")
	src, _ := put(t, real, 1, 300_000, 1000)
	put(t, mirror.Ref(t, "cache/app:1"), 1, 300_000, 1000)
	dead := httptest.NewServer(nil)
	dead.Close()
	conf := "[[registry]]\nprefix = \"example.com/team\"\nlocation = \"" + origin.Host() + "/hub\"\n" +
		"[[registry.mirror]]\nlocation = \"" + dead.Listener.Addr().String() + "\"\n" +
		"[[registry.mirror]]\nlocation = \"" + mirror.Host() + "/cache\"\n"
	write(t, filepath.Join(home, "registries.conf"), conf)
	ref := registrytest.Ref(t, "example.com/team/app:1")

	origin.Reset()
	dst, err := pull(t.Context(), connect(t, ref, registry.Options{}), registry.CopyOptions{})
	if err != nil || dst.Len() != src.Len() {
		t.Fatalf("pulled %d blobs, %v", dst.Len(), err)
	}
	if got := origin.Requests("", ""); len(got) != 0 {
		t.Errorf("the registry was asked, though a mirror answers: %v", got)
	}
	// A mirror that loses a blob, or all: the registry is asked.
	for _, path := range []string{"/blobs/", "/manifests/"} {
		mirror.Reset()
		mirror.Fault(fault{Path: path, Do: registrytest.Status(404)})
		if dst, err := pull(t.Context(), connect(t, ref, registry.Options{}), registry.CopyOptions{}); err != nil || dst.Len() != src.Len() {
			t.Errorf("mirror without %s: pulled %d blobs, %v", path, dst.Len(), err)
		}
	}
	// Pushes go to the registry only.
	mirror.Reset()
	other := registrytest.Ref(t, "example.com/team/new:1")
	put(t, other, 5, 1000)
	if got := append(mirror.Requests("POST", ""), mirror.Requests("PUT", "")...); len(got) != 0 {
		t.Errorf("a mirror was pushed to: %v", got)
	}
	if _, err := connect(t, origin.Ref(t, "hub/new:1"), registry.Options{}).Resolve(t.Context(), origin.Ref(t, "hub/new:1")); err != nil {
		t.Error(err)
	}
	// The error that is told is the registry's.
	missing := registrytest.Ref(t, "example.com/team/app:none")
	if _, err := connect(t, missing, registry.Options{}).Resolve(t.Context(), missing); err == nil || !contains(err.Error(), missing.String(), "not found") {
		t.Errorf("missing tag: %v", err)
	}
}

func TestSearch(t *testing.T) {
	home := registrytest.Home(t)
	a, b := registrytest.New(t), registrytest.New(t)
	_, d := put(t, b.Ref(t, "tool:1"), 1, 1000)
	write(t, filepath.Join(home, "registries.conf"), "unqualified-search-registries = [\""+a.Host()+"\", \""+b.Host()+"\"]\n")
	client := registry.NewClient(registry.Options{Limits: quick})
	repo, got, err := client.Search(t.Context(), "tool:1")
	if err != nil || repo.Reference() != b.Ref(t, "tool:1") || got.Digest != d.Digest {
		t.Errorf("Search = %v, %s, %v; want %s", repo, got.Digest, err, b.Ref(t, "tool:1"))
	}
	if _, _, err := client.Search(t.Context(), "tool:2"); err == nil || !strings.Contains(err.Error(), a.Host()+"/tool:2: not found") {
		t.Errorf("missing in all: %v", err)
	}
	b.Fault(fault{Do: registrytest.Status(403)})
	if _, _, err := client.Search(t.Context(), "tool:2"); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("missing in one and denied by the other: %v", err)
	}
}

// TestHelperResolve is a process that resolves: the environment of proxies is read once a process.
func TestHelperResolve(t *testing.T) {
	name := os.Getenv("FORGE_TEST_RESOLVE")
	if name == "" {
		t.Skip("is a part of other tests")
	}
	ref := registrytest.Ref(t, name)
	if _, err := pull(t.Context(), connect(t, ref, registry.Options{Insecure: true}), registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	put(t, r.Ref(t, "app:1"), 1, 1000)
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		proxied.Add(1)
		if req.Method == http.MethodConnect {
			tunnel(w, r.Host())
			return
		}
		req.URL.Host, req.RequestURI = r.Host(), ""
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer proxy.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperResolve$")
	cmd.Env = append(os.Environ(), "FORGE_TEST_RESOLVE=registry.test:5000/app:1", "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL, "NO_PROXY=")
	if out, err := cmd.CombinedOutput(); err != nil || proxied.Load() < 3 {
		t.Errorf("%d requests through the proxy, %v\n%s", proxied.Load(), err, out)
	}
}

// TestProxyRefuses holds that a proxy's refusal is told as that, with what to do, and not tried again.
func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		407: "refuses: 407 Proxy Authentication Required; give it a name and password: HTTPS_PROXY=http://NAME:PASSWORD@",
		403: "refuses: 403 Forbidden",
	} {
		var asked atomic.Int32
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(code)
		}))
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperResolve$")
		address := strings.Replace(proxy.URL, "http://", "http://user:secret@", 1)
		cmd.Env = append(os.Environ(), "FORGE_TEST_RESOLVE=registry.test:5000/app:1", "HTTP_PROXY="+address, "HTTPS_PROXY="+address, "NO_PROXY=")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "secret") || asked.Load() != 1 {
			t.Errorf("%d: asked %d times, %v\n%s", code, asked.Load(), err, out)
		}
		proxy.Close()
	}
}

func tunnel(w http.ResponseWriter, to string) {
	out, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(out, in) }()
	_, _ = io.Copy(in, out)
}

// TestClientCertificate meets a registry that wants one.
func TestClientCertificate(t *testing.T) {
	home := registrytest.Home(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"tags":["a"]}`) }))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	defer s.Close()
	trust(t, home, s)
	ref := registrytest.Ref(t, s.Listener.Addr().String()+"/app:1")
	if _, err := connect(t, ref, registry.Options{}).Tags(t.Context()); err == nil {
		t.Error("listed without a certificate")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, ".config/containers/certs.d", s.Listener.Addr().String())
	write(t, filepath.Join(dir, "client.cert"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "client.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})))
	if tags, err := connect(t, ref, registry.Options{}).Tags(t.Context()); err != nil || len(tags) != 1 {
		t.Errorf("Tags with a certificate = %v, %v", tags, err)
	}
	write(t, filepath.Join(dir, "ca.crt"), "no certificate")
	if _, err := registry.NewClient(registry.Options{}).Connect(ref); err == nil || !strings.Contains(err.Error(), "ca.crt: holds no certificate") {
		t.Errorf("junk in ca.crt: %v", err)
	}
}

// TestTagsPaging follows links, and not for ever.
func TestTagsPaging(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	page := func(link string) registrytest.Do {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			if link != "" {
				w.Header().Set("Link", "<"+link+">; rel=\"next\"")
			}
			_, _ = io.WriteString(w, `{"name":"app","tags":["x"]}`)
		}
	}
	r.Fault(fault{Path: "/tags/list", Times: 1, Do: page("/v2/app/tags/list?last=x")})
	r.Fault(fault{Path: "/tags/list", Times: 1, Do: page("list?last=y")})
	r.Fault(fault{Path: "/tags/list", Times: 1, Do: page("http://169.254.169.254/v2/app/tags/list?last=z")}) // only the path is used
	r.Fault(fault{Path: "/tags/list", Times: 1, Do: page("")})
	if tags, err := connect(t, ref, registry.Options{}).Tags(t.Context()); err != nil || len(tags) != 4 {
		t.Errorf("Tags = %v, %v; want four pages", tags, err)
	}
	for link, want := range map[string]string{"/v2/app/tags/list?n=1000": "no end", "/other": "false place"} {
		r.Reset()
		r.Fault(fault{Path: "/tags/list", Do: page(link)})
		if _, err := connect(t, ref, registry.Options{}).Tags(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("link %s: %v, want %q", link, err, want)
		}
	}
}
