package snapshot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTreeRenamed unpacks a layer while another process gives the tree its durable name as soon as it is there.
func TestTreeRenamed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	layer := writeLayer(t, s, []testFile{{path: "f", Entry: mode(unix.S_IFREG, 0o644)}})
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	final := s.snapshotPath(layer.DiffID, "")
	for range 100 {
		renamed := make(chan struct{})
		go func() {
			defer close(renamed)
			for os.Rename(final+"~"+boot, final) != nil {
			}
		}()
		fd, err := s.openTree(t.Context(), layer)
		if err != nil {
			t.Fatal(err)
		}
		tree := os.NewFile(uintptr(fd), "tree")
		if _, err := os.Lstat(filepath.Join(procPath(fd), "f")); err != nil {
			t.Error(err)
		}
		tree.Close()
		<-renamed
		if err := os.RemoveAll(final); err != nil {
			t.Fatal(err)
		}
	}
}
