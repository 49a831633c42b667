package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-build/forge/internal/durable"
)

// TestTemporaryFiles: who only looks leaves files that are being written alone, since to see whether one is held keeps its writer from
// locking it; who sweeps, which he does under the lock, removes what the dead have left.
func TestTemporaryFiles(t *testing.T) {
	t.Parallel()
	a := &account{root: t.TempDir()}
	path := filepath.Join(a.dir("n"), durable.Prefix+"1")
	if err := os.Mkdir(a.dir("n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"Bi`), 0o600); err != nil {
		t.Fatal(err)
	}
	if u, err := a.usage(); err != nil || len(u.left) > 0 {
		t.Errorf("who looks: %v, %v", u, err)
	}
	if _, err := a.sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("what a dead one was writing is left")
	}
}

// TestAddressesInTurn holds that an address that was given is the last to be given again, also where the next is shorter as text.
func TestAddressesInTurn(t *testing.T) {
	a := &account{root: t.TempDir()}
	n := &Network{ID: "n", Subnet: netip.MustParsePrefix("10.1.1.0/24"), Gateway: mustAddr("10.1.1.1")}
	if err := errors.Join(os.Mkdir(a.dir("n"), 0o700), overwrite(filepath.Join(a.dir("n"), lastFile), mustAddr("10.1.1.254"))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.1.1.2", "10.1.1.3"} {
		if got, err := a.address(&usage{}, n, netip.Addr{}); err != nil || got != mustAddr(want) {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

// TestEnsure holds that a setting that could not be made is tried again, and one that was made is not asked for at once.
func TestEnsure(t *testing.T) {
	s := &Store{}
	var tried []string
	setting := func(name string, err error) func() error {
		return func() error { tried = append(tried, name); return err }
	}
	failed := errors.New("read-only")
	if err := s.ensure("a", setting("a", failed)); err != failed {
		t.Errorf("a setting that cannot be made: %v", err)
	}
	for range 2 {
		if err := errors.Join(s.ensure("a", setting("a", nil)), s.ensure("b", setting("b", nil))); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(tried, " "); got != "a a b" {
		t.Errorf("tried %s", got)
	}
}
