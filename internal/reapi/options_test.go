package reapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
)

// certificates makes a certificate for this machine that is its own authority, as files.
func certificates(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pool = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", raw), write("key.pem", "EC PRIVATE KEY", der), pool
}

// TestOptions holds that a server is believed only with a certificate that may be, that it sees the client's, and that it gets what the
// program for credentials says, which is asked once.
func TestOptions(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificates(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	kit := &reapitest.Server{}
	srv := httptest.NewUnstartedServer(kit.Handler())
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	address := "grpcs://localhost" + srv.URL[strings.LastIndexByte(srv.URL, ':'):]

	dir := t.TempDir()
	helper := filepath.Join(dir, "helper")
	script := fmt.Sprintf("#!/bin/sh\ncat >> %s/asked\necho >> %s/asked\n"+
		`echo '{"headers":{"Authorization":["Bearer token"]},"expires":"%s"}'`, dir, dir, time.Now().Add(time.Hour).Format(time.RFC3339))
	if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	whole := reapi.Options{CA: cert, Cert: cert, Key: key, Helper: helper, Headers: []string{"X-Team=build=1"}}
	for name, test := range map[string]struct {
		change func(o *reapi.Options)
		ok     bool
	}{
		"whole":          {func(*reapi.Options) {}, true},
		"no authority":   {func(o *reapi.Options) { o.CA = "" }, false},
		"no certificate": {func(o *reapi.Options) { o.Cert, o.Key = "", "" }, false},
	} {
		o := whole
		test.change(&o)
		_ = os.Remove(filepath.Join(dir, "asked"))
		c, err := reapi.Dial(address, o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Capabilities(t.Context())
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		if test.ok {
			if _, err := c.Result(t.Context(), reapi.DigestOf(nil)); err != nil {
				t.Error(err)
			}
			if got := kit.Header("authorization") + " " + kit.Header("x-team"); got != "Bearer token build=1" {
				t.Errorf("%s: the server sees %q", name, got)
			}
			asked, err := os.ReadFile(filepath.Join(dir, "asked"))
			if want := `{"uri":"https://localhost` + srv.URL[strings.LastIndexByte(srv.URL, ':'):] + "\"}\n"; err != nil || string(asked) != want {
				t.Errorf("%s: the program was asked %q, want %q, %v", name, asked, want, err)
			}
		}
		_ = c.Close()
	}
	for name, o := range map[string]reapi.Options{
		"a key without a certificate": {Key: key}, "no file": {CA: "/nowhere"}, "a file that is none": {CA: key},
	} {
		if _, err := reapi.Dial(address, o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := reapi.Dial("grpc://x:1", reapi.Options{CA: cert}); err == nil {
		t.Error("certificates are taken for a server without TLS")
	}
	for address, ok := range map[string]bool{
		"grpc://localhost:1": true, "grpc://127.0.0.2:1": true, "grpc://[::1]:1": true, "grpc://127.example.com:1": false, "grpc://10.0.0.1:1": false,
	} {
		if _, err := reapi.Dial(address, reapi.Options{Helper: helper}); (err == nil) != ok {
			t.Errorf("credentials for %s: %v", address, err)
		}
	}
}
