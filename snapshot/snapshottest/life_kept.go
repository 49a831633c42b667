package snapshottest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// keptDraftInUse reads what is written in a draft while it is mounted: what changed is listed and makes a layer, mount points
// are in neither, and the draft stays as it is.
func keptDraftInUse(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) {
		for _, name := range []string{"a", "gone/x", "etc/passwd", "same", "dir/x", "mode"} {
			r.File(name, "1")
		}
	})
	layers := []image.Layer{base}
	dir := filepath.Join(k.Root, "containers", "one")
	if list := keptChanges(t, k, layers, dir); len(list) != 0 {
		t.Errorf("changes of a draft that never was: %q", list)
	}
	d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: dir})
	etc := NewRoot(t, Path(f)).ModTime("etc")
	for path, kind := range map[string]fs.FileMode{"/etc/hosts": 0, "/etc/hostname": 0, "/data/deep": fs.ModeDir, "/used": fs.ModeDir} {
		if _, err := d.Mountpoint(path, kind); err != nil {
			t.Fatal(err)
		}
	}
	if list := keptChanges(t, k, layers, dir); len(list) != 0 {
		t.Errorf("changes before anything was written: %q", list)
	}
	r := NewRoot(t, Path(f))
	r.File("a", "2")
	r.Remove("gone")
	r.File("new/file", "2")
	r.File("used/file", "2")
	r.Chmod("mode", 0o600)
	r.Remove("dir")
	r.File("dir", "a file now")
	want := []string{"C /a", "C /dir", "D /gone", "C /mode", "A /new", "A /new/file", "A /used", "A /used/file"}
	if list := keptChanges(t, k, layers, dir); !slices.Equal(list, want) {
		t.Errorf("changes %q, want %q", list, want)
	}
	kept := openKept(t, k, layers, dir)
	layer, changed, err := kept.Commit(t.Context())
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	for _, path := range []string{"etc/hosts", "etc/hostname", "data/deep", "data"} {
		r.Remove(path)
	}
	r.Times("etc", etc)
	CompareLayers(t, k, append(layers, layer), ListDir(t, Path(f)))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// keptDraftWritten reads a draft while a process makes and removes files in it.
func keptDraftWritten(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	layers := []image.Layer{Commit(t, k, nil, func(r Root) { r.File("a", "1") })}
	dir := filepath.Join(k.Root, "containers", "one")
	d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: dir})
	defer d.Close()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			name := filepath.Join(Path(f), "dir"+strconv.Itoa(i%3))
			err := os.Mkdir(name, 0o755)
			if err == nil {
				err = os.WriteFile(filepath.Join(name, "file"), nil, 0o644)
			}
			if err == nil {
				err = os.RemoveAll(name)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for range 200 {
		keptChanges(t, k, layers, dir)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// keptDraftMeasured measures what was written, and nothing of the image, also if a process has made directories deeper than any path can
// tell. They can neither be listed nor be a layer.
func keptDraftMeasured(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	layers := []image.Layer{Commit(t, k, nil, func(r Root) {
		r.File("image", strings.Repeat("i", 10_000))
		r.File("d/changed", strings.Repeat("c", 1000))
		r.Times("d/changed", moment)
	})}
	dir := filepath.Join(k.Root, "containers", "one")
	written := func(layers []image.Layer, want int64) {
		t.Helper()
		if got, err := k.Store.Written(t.Context(), layers, dir); err != nil || got != want {
			t.Errorf("%d bytes are written (%v), want %d", got, err, want)
		}
	}
	written(layers, 0)
	d, f := draft(t, k, layers, snapshot.DraftOptions{Dir: dir})
	if _, err := d.Mountpoint("/etc/hosts", 0); err != nil {
		t.Fatal(err)
	}
	written(layers, 0)
	r := NewRoot(t, Path(f))
	r.File("d/changed", strings.Repeat("C", 1000))
	r.File("new/file", "new")
	r.Link("new/file", "new/link")
	written(layers, 1003)
	if kind == snapshot.Copy { // what is a copy of a layer that is gone cannot be told from the rest
		gone := layers[0]
		gone.DiffID = digest.FromString("gone")
		written([]image.Layer{gone}, 11_003)
	}
	deepTree(t, Path(f))
	written(layers, 1003)
	kept := openKept(t, k, layers, dir)
	const want = "…: name of 4099 bytes is too long"
	if _, err := kept.Diff(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("Diff: %v, want %s", err, want)
	}
	if _, _, err := kept.Commit(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("Commit: %v, want %s", err, want)
	}
	if err := errors.Join(d.Close(), snapshot.RemoveTree(dir)); err != nil {
		t.Error(err)
	}
}

func openKept(t *testing.T, k *Kit, layers []image.Layer, dir string) *snapshot.Kept {
	t.Helper()
	kept, err := k.Store.OpenKept(t.Context(), layers, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	return kept
}

func keptChanges(t *testing.T, k *Kit, layers []image.Layer, dir string) (lines []string) {
	t.Helper()
	list, err := openKept(t, k, layers, dir).Diff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		lines = append(lines, fmt.Sprintf("%c %s", c.Kind, c.Path))
	}
	return lines
}
