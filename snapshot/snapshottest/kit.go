// Package snapshottest is the test kit of package snapshot: stores in temporary directories, listings of trees to
// compare, and the suite that every kind of snapshotter passes.
package snapshottest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// A Kit is a store with what it stands on.
type Kit struct {
	Store  *snapshot.Store
	Layout *image.Layout
	Stage  *image.Staging
	Root   string // state directory
}

// Open opens a store in the state directory root. The test closes it.
func Open(t testing.TB, root string, kind snapshot.Kind) *Kit {
	t.Helper()
	staging, err := image.OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.OpenLayout(root, staging)
	if err != nil {
		t.Fatal(err)
	}
	store, err := snapshot.Open(root, layout, kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
		if err := staging.Close(); err != nil {
			t.Errorf("close staging: %v", err)
		}
	})
	return &Kit{Store: store, Layout: layout, Stage: staging, Root: root}
}

// Need skips the test, or fails it if FORGE_TEST_MUST says that what it needs must be here.
func Need(t testing.TB, what string, met bool) {
	t.Helper()
	if met {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), what) {
		t.Fatalf("needs %s, which FORGE_TEST_MUST says is here", what)
	}
	t.Skipf("needs %s", what)
}

// Path names an open directory so that package os can work in it.
func Path(dir *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", dir.Fd()) }
