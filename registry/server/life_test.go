package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"

	"github.com/forge-build/forge/registry/server"
)

// TestUploadOutlivesTheServer begins an upload, starts the server anew and goes on.
func TestUploadOutlivesTheServer(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	content := []byte(strings.Repeat("abcdefgh", 2000))
	d := digest.FromBytes(content)
	var path string
	for i, status := range []int{202, 202, 201} {
		s, err := server.New(context.Background(), server.Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		hs := httptest.NewServer(s)
		c := client{t, hs.URL}
		part := content[i*5000 : min((i+1)*5000, len(content))]
		switch i {
		case 0:
			loc := c.do("POST", "/v2/a/blobs/uploads/", nil).want(t, 202).location(t)
			path = strings.TrimPrefix(loc, hs.URL)
			c.do("PATCH", path, part).want(t, status)
		case 1:
			c.do("GET", path, nil).want(t, 204).header(t, "Range", "0-4999")
			c.do("PATCH", path, part, "Content-Range", "5000-9999").want(t, status)
		case 2:
			c.do("PUT", path+"?digest="+url.QueryEscape(d.String()), content[10000:]).want(t, status)
			if get := c.do("GET", "/v2/a/blobs/"+d.String(), nil).want(t, 200); get.body != string(content) {
				t.Error("blob differs")
			}
		}
		hs.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, "repositories/a/_uploads/*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left of the upload: %v, %v", left, err)
	}
}

// TestBrokenUploadKeepsWhatCame breaks the connection amid a body and goes on over another one.
func TestBrokenUploadKeepsWhatCame(t *testing.T) {
	t.Parallel()
	s, err := server.New(context.Background(), server.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{})
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PATCH" {
			r.Body = &watchedBody{ReadCloser: r.Body, left: 60_000, came: came}
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		hs.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := client{t, hs.URL}
	content := []byte(strings.Repeat("x", 100_000))
	loc := c.do("POST", "/v2/a/blobs/uploads/", nil).want(t, 202).location(t)
	u, err := url.Parse(loc)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", u.Path, len(content), content[:60_000])
	<-came // The connection stays open: the next request makes the server give it up.
	c.do("GET", loc, nil).want(t, 204).header(t, "Range", "0-59999")
	defer conn.Close()
	d := digest.FromBytes(content)
	c.do("PUT", withDigest(loc, d), content[60_000:]).want(t, 201)
	if get := c.do("GET", "/v2/a/blobs/"+d.String(), nil).want(t, 200); get.body != string(content) {
		t.Error("blob differs")
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil && !strings.Contains(err.Error(), "EOF") {
		t.Errorf("first connection: %v", err)
	}
}

// A watchedBody tells when so many bytes of it have been read.
type watchedBody struct {
	io.ReadCloser
	left int
	came chan struct{}
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left == 0 && n > 0 {
		close(b.came)
	}
	return n, err
}

// TestSweep starts on what crashes have left.
func TestSweep(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := start(t, server.Options{Root: root})
	kept := c.image("a/b", "v1", "layer", nil, "")
	fresh := strings.TrimPrefix(c.do("POST", "/v2/a/b/blobs/uploads/", nil).want(t, 202).location(t), c.base+"/v2/a/b/blobs/uploads/")
	stale := strings.TrimPrefix(c.do("POST", "/v2/a/b/blobs/uploads/", nil).want(t, 202).location(t), c.base+"/v2/a/b/blobs/uploads/")
	uploads := filepath.Join(root, "repositories/a/b/_uploads")
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(uploads, stale), old, old); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(root, "images/blobs/sha256", digest.FromString("orphan").Encoded())
	temp := filepath.Join(root, "repositories/a/b/_tags/.tmp-123")
	for _, path := range []string{orphan, temp} {
		if err := os.WriteFile(path, []byte("orphan"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock := filepath.Join(root, "lock")
	if err := os.Rename(lock, lock+"ed"); err != nil { // as if the first server were gone
		t.Fatal(err)
	}
	again := start(t, server.Options{Root: root})
	for _, path := range []string{orphan, temp, filepath.Join(uploads, stale)} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if _, err := os.Stat(filepath.Join(uploads, fresh)); err != nil {
		t.Errorf("a fresh upload: %v", err)
	}
	again.do("GET", "/v2/a/b/manifests/"+kept.Digest.String(), nil).want(t, 200)
	again.do("GET", "/v2/a/b/blobs/"+digest.FromString("layer").String(), nil).want(t, 200)
}

func TestOneServerAtATime(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	start(t, server.Options{Root: root})
	if _, err := server.New(context.Background(), server.Options{Root: root}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second server: %v, want a refusal", err)
	}
}

func TestHtpasswd(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("# users\nann:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, server.Options{Htpasswd: file})
	for _, test := range []struct {
		user, password string
		status         int
	}{
		{"", "", 401},
		{"ann", "secret", 200},
		{"ann", "wrong", 401},
		{"bob", "secret", 401},
		{"ann", "secret", 200},
		{"ann", "", 401},
		{"ann", "secret\x00secret", 401},
		{"ann", "secret\x00", 401},
	} {
		req, err := http.NewRequest("GET", c.base+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.user != "" {
			req.SetBasicAuth(test.user, test.password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.status {
			t.Errorf("%s:%s = HTTP %d, want %d", test.user, test.password, resp.StatusCode, test.status)
		}
		if test.status == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Error("401 without a challenge")
		}
	}
	for text, want := range map[string]string{"": "no users", "ann:{SHA}x\n": "htpasswd:1:", "ann\n": "bcrypt"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.New(context.Background(), server.Options{Root: t.TempDir(), Htpasswd: file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("htpasswd %q: %v, want an error with %q", text, err, want)
		}
	}
}

func TestServeTLSUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	s, err := server.New(context.Background(), server.Options{Root: t.TempDir(), CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	hc := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := hc.Get("https://" + l.Addr().String() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("HTTP %d over TLS", resp.StatusCode)
	}
	hc.CloseIdleConnections()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve = %v after its context ended", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Serve does not end")
	}
}

// certificate makes a key and a certificate for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"c.pem": {Type: "CERTIFICATE", Bytes: der}, "k.pem": {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
}
