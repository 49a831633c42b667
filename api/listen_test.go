package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge"
)

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Symlink(at("elsewhere"), at("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, at("linked")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at("open"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(at("open"), 0o777); err != nil {
		t.Fatal(err)
	}
	l, err := ListenUnix(t.Context(), at("new/socket"), -1)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(at("new/socket")); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("socket is %v, %v", info.Mode(), err)
	}
	for path, want := range map[string]string{
		at("link"): "symbolic link", at("linked/socket"): "symbolic link", at("file"): "no socket", at("open/socket"): "changed by everybody",
		at("new/socket"): "served already",
	} {
		if l, err := ListenUnix(t.Context(), path, -1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want an error with %q", path, l, err, want)
		}
	}
	unix, _ := l.(*net.UnixListener)
	unix.SetUnlinkOnClose(false) // as if it had been killed
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = ListenUnix(t.Context(), at("new/socket"), os.Getgid()); err != nil {
		t.Fatal("in the place of one that nobody serves: ", err)
	}
	l.Close()
}

const abandonedSocket = "FORGE_TEST_ABANDONED_SOCKET" // names the socket that abandon makes

// abandon makes a socket and leaves it to a process that does nothing, for as many seconds as the argument says.
func abandon(path string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		panic(err)
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		panic(err)
	}
	heir := exec.Command("sleep", os.Args[1])
	heir.ExtraFiles = []*os.File{file}
	if err := heir.Start(); err != nil {
		panic(err)
	}
}

// TestListenUnixAbandoned holds that a server may be started as soon as the one before is killed, though a process that it was just starting still
// has its socket, and that nobody takes a socket that was given to another process.
func TestListenUnixAbandoned(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[string]string{"0.1": "", "9": "is served already"} {
		path := filepath.Join(t.TempDir(), "socket")
		maker := exec.Command(os.Args[0], seconds)
		maker.Env = append(os.Environ(), abandonedSocket+"="+path)
		if out, err := maker.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		l, err := ListenUnix(t.Context(), path, -1)
		if err == nil {
			l.Close()
		}
		if said := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(said, want) {
			t.Errorf("after %s s: %v, want %q", seconds, err, want)
		}
	}
}

// certificate makes one, signed by another or, if that is nil, by itself, and writes it and its key to files.
func certificate(t *testing.T, dir, name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if by == nil {
		by, byKey = c, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: raw}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: rawKey}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, key
}

func TestListenTLS(t *testing.T) {
	dir := t.TempDir()
	ca, key := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, key)
	certificate(t, dir, "client", ca, key)
	certificate(t, dir, "stranger", nil, nil)
	at := func(name string) string { return filepath.Join(dir, name) }
	if _, err := ListenTLS(t.Context(), "127.0.0.1:0", TLSOptions{Cert: at("server.pem"), Key: at("server.key")}); err == nil {
		t.Error("TCP is served without certificates of clients")
	}
	l, err := ListenTLS(t.Context(), "127.0.0.1:0", TLSOptions{CA: at("ca.pem"), Cert: at("server.pem"), Key: at("server.key")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- New(Options{Store: forge.Options{Dir: t.TempDir()}}).Serve(ctx, 0, l) }()
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	for name, admitted := range map[string]bool{"client": true, "stranger": false, "": false} {
		config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		if name != "" {
			cert, err := tls.LoadX509KeyPair(at(name+".pem"), at(name+".key"))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{cert}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		res, err := client.Get("https://" + l.Addr().String() + "/_ping")
		if (err == nil) != admitted {
			t.Errorf("certificate %q: %v", name, err)
		}
		if err == nil {
			res.Body.Close()
		}
		client.CloseIdleConnections()
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestIdle ends a server that nobody asks for anything, but not while a request is answered.
func TestIdle(t *testing.T) {
	l, err := ListenUnix(t.Context(), filepath.Join(t.TempDir(), "s"), -1)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Store: forge.Options{Dir: t.TempDir()}})
	s.activity.begin()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), time.Millisecond, l) }()
	select {
	case err := <-ended:
		t.Fatal("it has ended while a request is answered: ", err)
	case <-time.After(20 * time.Millisecond):
	}
	s.activity.end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
