package snapshot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/forge-build/forge/snapshot"
)

// TestRemoveTogether holds that several may delete the same tree at once, as a removal and a prune do.
func TestRemoveTogether(t *testing.T) {
	t.Parallel()
	for range 20 {
		top := filepath.Join(t.TempDir(), "tree")
		for i := range 40 {
			dir := filepath.Join(top, fmt.Sprint(i%8), fmt.Sprint(i))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if err := snapshot.RemoveTree(top); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if _, err := os.Lstat(top); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("is still there: %v", err)
		}
	}
}
