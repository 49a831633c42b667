package image

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestLoadManyFiles holds that what an archive costs grows with its bytes: not each of its files takes buffers for a large one. It is not parallel, since it
// counts what this process allocates.
func TestLoadManyFiles(t *testing.T) {
	const files = 500
	var all []string
	for i := range files {
		all = append(all, fmt.Sprint("x", i), fmt.Sprint(i))
	}
	archive := archiveOf(all...)
	l := openLayout(t, t.TempDir())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := l.Load(t.Context(), bytes.NewReader(archive), LoadOptions{}); err == nil || !strings.Contains(err.Error(), "neither index.json nor manifest.json") {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / files; n > 64<<10 {
		t.Errorf("a file of a few bytes takes %d bytes of memory", n)
	}
	if left, _ := filepath.Glob(filepath.Join(l.root, "ingest", "*", "*")); len(left) > 0 {
		t.Errorf("%d files are left", len(left))
	}
}
