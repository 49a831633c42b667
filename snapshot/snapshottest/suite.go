package snapshottest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// Rights are what the suite can count on.
type Rights struct {
	Root bool // of the machine
	IDs  bool // more than one user
}

// TestStore is the suite that every kind passes.
func TestStore(t *testing.T, kind snapshot.Kind, rights Rights) {
	for _, c := range changes {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if c.root && !rights.Root {
				t.Skip("needs to be root of the machine")
			}
			if c.ids && !rights.IDs {
				t.Skip("needs more than one user ID")
			}
			k := Open(t, t.TempDir(), kind)
			var layers []image.Layer
			if c.base != nil {
				layers = append(layers, Commit(t, k, nil, c.base))
			}
			layer := Commit(t, k, layers, c.do)
			if names := strings.Join(layerNames(t, k, layer), " "); !c.many && names != c.want {
				t.Errorf("layer has %q, want %q", names, c.want)
			}
			if kind == snapshot.Overlay {
				compareUnpacked(t, k, layer)
			}
		})
	}
	for _, test := range lives {
		t.Run(test.name, func(t *testing.T) { test.run(t, kind) })
	}
}

// compareUnpacked compares the directory that a draft has left for its layer with what unpacking the layer gives.
func compareUnpacked(t *testing.T, k *Kit, layer image.Layer) {
	t.Helper()
	other := Open(t, t.TempDir(), snapshot.Overlay)
	if _, err := other.Layout.Push(t.Context(), layer.Blob, image.ContentOf(k.Layout, layer.Blob)); err != nil {
		t.Fatal(err)
	}
	m, err := other.Store.Mount(t.Context(), []image.Layer{layer})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	// The root's metadata may differ: what lies on it has its own.
	Compare(t, "directory left", ListDir(t, unpacked(t, k, layer))[1:], ListDir(t, unpacked(t, other, layer))[1:])
}

// unpacked is the directory of a layer.
func unpacked(t *testing.T, k *Kit, layer image.Layer) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(k.Root, "snapshots", layer.DiffID.Encoded()+"~*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("layer %s is unpacked in %q: %v", layer.DiffID, found, err)
	}
	return found[0] + "/"
}

// Commit makes a layer of what a change does on top of layers, and makes sure that a mount and a view of all of them show
// what the draft showed.
func Commit(t testing.TB, k *Kit, layers []image.Layer, change func(r Root)) image.Layer {
	t.Helper()
	d, err := k.Store.Draft(t.Context(), layers, snapshot.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Errorf("close draft: %v", err)
		}
	}()
	f, err := d.Mount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	view, err := k.Store.View(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	before := ListTree(t, view)
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	change(NewRoot(t, Path(f)))
	want := relinked(before, ListDir(t, Path(f)))
	layer, err := d.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	CompareLayers(t, k, append(layers[:len(layers):len(layers)], layer), want)
	return layer
}

// relinked is the listing after, with the hard links of before between files in which nothing else has changed. Overlayfs
// gives a file an inode of its own when it is opened for writing or gets the owner that it has, and a copy has one for each name;
// that is no change, and the layer leaves the file to the layers below.
func relinked(before, after []string) []string {
	type entry struct{ line, name, link string } // a line without its link, the name that begins it, and the link
	parse := func(line string) entry {
		line, link, _ := strings.Cut(line, " is ")
		name, _, _ := strings.Cut(line, "\" ")
		return entry{line, name + "\"", link}
	}
	was, is := map[string]entry{}, map[string]entry{}
	for _, line := range before {
		e := parse(line)
		was[e.name] = e
	}
	for _, line := range after {
		e := parse(line)
		is[e.name] = e
	}
	same := func(name string) bool { return was[name].line == is[name].line }
	after = slices.Clone(after)
	for i, line := range after {
		e, now := was[parse(line).name], parse(line).link
		if now != "" && now != e.link && was[now].link != e.link {
			continue // linked to another file
		}
		if e.link != "" && same(e.name) && same(e.link) {
			after[i] = e.line + " is " + e.link
		}
	}
	return after
}

// CompareLayers compares what a view, a mount and a new draft of the layers show with a listing.
func CompareLayers(t testing.TB, k *Kit, layers []image.Layer, want []string) {
	t.Helper()
	view, err := k.Store.View(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	Compare(t, "view", ListTree(t, view), want)
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	mount, err := k.Store.Mount(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	Compare(t, "mount", ListDir(t, Path(mount)), want)
	if err := os.WriteFile(Path(mount)+"/new", nil, 0o644); err == nil {
		t.Error("a read-only mount can be written to")
	}
	if err := mount.Close(); err != nil {
		t.Error(err)
	}
	if kind, _ := k.Store.Kind(); kind == snapshot.Copy { // whose drafts have no links yet
		want = slices.Clone(want)
		for i, line := range want {
			want[i], _, _ = strings.Cut(line, " is ")
		}
	}
	dir, err := os.MkdirTemp(k.Root, "kept")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []snapshot.DraftOptions{{}, {Dir: dir}} { // for a step, and for a container, whose layers are merged
		d, f := draft(t, k, layers, o)
		Compare(t, fmt.Sprintf("draft %+v", o), ListDir(t, Path(f)), want)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// layerNames lists a layer's tar: clean names, whiteouts as the name that they remove with a "-" before, blanks as "|".
func layerNames(t testing.TB, k *Kit, layer image.Layer) []string {
	t.Helper()
	f, err := k.Layout.OpenTar(context.WithoutCancel(t.Context()), layer)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		name := path.Clean(h.Name)
		dir, base := path.Split(name)
		if removed, ok := strings.CutPrefix(base, ".wh."); ok {
			name = "-" + dir + removed
		}
		names = append(names, strings.ReplaceAll(name, " ", "|"))
	}
}
