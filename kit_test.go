package forge_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/registry/registrytest"
)

func TestMain(m *testing.M) { os.Exit(registrytest.Run(m)) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
