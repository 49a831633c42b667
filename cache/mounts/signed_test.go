package mounts

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

func newKey(t *testing.T) (*remote.Signer, remote.Trust) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := remote.ReadSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := remote.ReadTrust(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open}))
	if err != nil {
		t.Fatal(err)
	}
	return key, trust
}

// TestSigned holds that who insists on signatures takes no directory that nobody has signed, who is trusted, as one of that mount and scope.
func TestSigned(t *testing.T) {
	shelf, store, _ := newShelf(t)
	key, trust := newKey(t)
	_, others := newKey(t)
	dir, m := t.TempDir(), Mount{ID: "/c", Lock: "lock"}
	write(t, dir, "file", noise(1, 100_000))
	find := func(m Mount) error {
		_, err := shelf.Find(t.Context(), m)
		return err
	}
	save(t, shelf, m, dir)
	shelf.Trust = trust
	if err := find(m); !errors.Is(err, remote.ErrUntrusted) {
		t.Errorf("nobody has signed: %v", err)
	}
	shelf.Key = key
	save(t, shelf, m, dir) // although nothing has changed
	if err := errors.Join(find(m), find(Mount{ID: "/c"})); err != nil {
		t.Error(err)
	}
	shelf.Key, shelf.Trust = nil, nil
	write(t, dir, "more", noise(2, 1000))
	if _, err := saveUpTo(t, shelf, m, dir, 1<<30); !errors.Is(err, errSigned) {
		t.Errorf("in the place of what is signed: %v", err)
	}
	shelf.Write, shelf.Read = "main", []string{"topic", "main"} // what is found first is of another scope
	save(t, shelf, m, dir)
	shelf.Write, shelf.Read = "topic", []string{"main", "topic"}
	if _, err := saveUpTo(t, shelf, m, dir, 1<<30); !errors.Is(err, errSigned) {
		t.Errorf("in the place of what is signed, behind another scope: %v", err)
	}
	shelf.Read = []string{"topic", "main"}
	shelf.Trust = others
	if err := find(m); !errors.Is(err, remote.ErrUntrusted) {
		t.Errorf("another has signed: %v", err)
	}
	shelf.Trust = trust
	move := func(to string) { // what a name stands for gets another name
		d, err := store.Resolve(t.Context(), shelf.tagged(m.tag("topic")))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := image.ReadSmall(t.Context(), store, d)
		if err == nil {
			err = store.PushManifest(t.Context(), shelf.tagged(to), d, raw)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	move(Mount{ID: "/other"}.tag("topic"))
	if err := find(Mount{ID: "/other"}); !errors.Is(err, remote.ErrUntrusted) {
		t.Errorf("signed as another mount: %v", err)
	}
	move(m.tag("main"))
	shelf.Read = []string{"main"}
	if err := find(Mount{ID: "/c"}); !errors.Is(err, remote.ErrUntrusted) {
		t.Errorf("signed for another scope: %v", err)
	}
	shelf.Read = []string{"main", "topic"}
	if err := find(Mount{ID: "/c"}); err != nil {
		t.Errorf("the scope behind one that is not trusted: %v", err)
	}
	shelf.Place.Identity = "elsewhere"
	if err := find(m); !errors.Is(err, remote.ErrUntrusted) {
		t.Errorf("signed for another place: %v", err)
	}
}
