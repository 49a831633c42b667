package source

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestDirHeld holds that directories which are kept open lead nowhere else, are few, and are closed.
func TestDirHeld(t *testing.T) {
	const dirs = 40
	var files []string
	for i := range dirs {
		files = append(files, fmt.Sprintf("d%d/e/a=%d", i, i), fmt.Sprintf("d%d/e/b=%d", i, i))
	}
	root, outside := makeDir(t, files...), makeDir(t, "e/b=secret")
	d := openDir(t, root, nil, "")
	names(t, d)
	var g errgroup.Group
	for k := range 4 {
		g.Go(func() error {
			for i := range dirs {
				i = (i*(2*k+1) + k) % dirs
				r, err := d.Open(fmt.Sprintf("d%d/e/a", i))
				if err != nil {
					return err
				}
				if b, err := io.ReadAll(r); err != nil || string(b) != fmt.Sprint(i) {
					return fmt.Errorf("d%d/e/a: %q, %w", i, b, err)
				}
				if err := r.Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
	if n := openBelow(t, root); n > len(d.tools.held.dirs)+1 {
		t.Errorf("%d descriptors are open", n)
	}
	for i := range dirs {
		dir := filepath.Join(root, fmt.Sprintf("d%d", i))
		must(t, os.Rename(dir, filepath.Join(outside, fmt.Sprint(i))))
		must(t, os.Symlink(outside, dir))
		r, err := d.Open(fmt.Sprintf("d%d/e/b", i))
		if err != nil {
			continue
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != fmt.Sprint(i) {
			t.Errorf("d%d/e/b: %q, %v", i, b, err)
		}
		must(t, r.Close())
	}
	must(t, d.Close())
	if n := openBelow(t, root) + openBelow(t, outside); n > 0 {
		t.Errorf("%d descriptors are open after Close", n)
	}
}

// openBelow counts the descriptors of this process that lead into a directory.
func openBelow(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range list {
		if at, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(at, dir) {
			n++
		}
	}
	return n
}
