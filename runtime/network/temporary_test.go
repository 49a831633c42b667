package network

import (
	"os"
	"path/filepath"
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
