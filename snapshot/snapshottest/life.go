package snapshottest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// lives are tests of how stores and drafts come and go.
var lives = []struct {
	name string
	run  func(t *testing.T, kind snapshot.Kind)
}{
	{"no-layers", noLayers},
	{"same-layer-twice", sameLayerTwice},
	{"many-layers", manyLayers},
	{"implied-directories", impliedDirectories},
	{"whiteout-names", whiteoutNames},
	{"epoch", epoch},
	{"mount-points", mountPoints},
	{"mount-points-in-use", mountPointsInUse},
	{"mount-points-through-links", mountPointsThroughLinks},
	{"kept-draft", keptDraft},
	{"kept-draft-in-use", keptDraftInUse},
	{"kept-draft-written", keptDraftWritten},
	{"kept-draft-measured", keptDraftMeasured},
	{"merged", merged},
	{"draft-in-memory", draftInMemory},
	{"beside-each-other", besideEachOther},
	{"nothing-left", nothingLeft},
	{"sweep", sweep},
	{"big-hole", bigHole},
	{"other-process", otherProcess},
}

func noLayers(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	CompareLayers(t, k, nil, []string{`"." 040755 0:0`})
}

func sameLayerTwice(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	a := Commit(t, k, nil, func(r Root) { r.File("d/a", "1") })
	none := Commit(t, k, []image.Layer{a}, func(Root) {})
	b := Commit(t, k, []image.Layer{a, none}, func(r Root) { r.Remove("d/a"); r.File("b", "1") })
	layers := []image.Layer{a, none, none, b, a, none}
	view, err := k.Store.View(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	CompareLayers(t, k, layers, ListTree(t, view))
	if _, err := view.Lstat("d/a"); err != nil {
		t.Error(err)
	}
}

// impliedDirectories stacks a layer that has files without their directories.
func impliedDirectories(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	base := Commit(t, k, nil, func(r Root) {
		for _, name := range []string{"d/e/f/x", "gone/x", "file/x", "d/other/x"} {
			r.File(name, "1")
		}
		for _, name := range []string{"d/e/f", "d/e", "d", "gone", "d/other", "file"} {
			r.Chmod(name, 0o1750)
			r.Xattr(name, "user.name", name)
			r.Times(name, moment)
		}
		r.Chmod(".", 0o711)
	})
	foreign := TarLayer(t, k, "d/e/f/new", "d/other/new", "new/dir/new", "gone/new", "file/new")
	top := Commit(t, k, []image.Layer{base, foreign}, func(r Root) { r.Remove("gone"); r.Remove("file"); r.File("file", "1") })
	for _, layers := range [][]image.Layer{{base, foreign}, {base, foreign, top}, {foreign, base}} {
		view, err := k.Store.View(t.Context(), layers)
		if err != nil {
			t.Fatal(err)
		}
		want := ListTree(t, view)
		if err := view.Close(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(want, "\n"), `"d/e" 041750`) || !strings.Contains(want[0], "040711") {
			t.Fatalf("view shows %q", want)
		}
		CompareLayers(t, k, layers, want)
	}
}

// TarLayer stores a layer, as of another builder, that has only files.
func TarLayer(t testing.TB, k *Kit, names ...string) image.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 4, ModTime: moment}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("file")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len()),
	}
	if _, err := k.Layout.Push(t.Context(), d, image.Bytes(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	return image.Layer{Blob: d, DiffID: d.Digest}
}

func manyLayers(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	n := map[snapshot.Kind]int{snapshot.EROFS: 300, snapshot.Overlay: 150, snapshot.Copy: 40}[kind]
	var layers []image.Layer
	for i := range n {
		d, f := draft(t, k, layers, snapshot.DraftOptions{})
		r := NewRoot(t, Path(f))
		r.File(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint(i))
		if i%5 == 4 {
			r.Remove(fmt.Sprintf("d%d/f%d", (i-3)%7, i-3))
		}
		var want []string
		if i == n-1 {
			want = ListDir(t, Path(f))
		}
		layer, err := d.Commit(t.Context(), nil)
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		if layers = append(layers, layer); i == n-1 {
			CompareLayers(t, k, layers, want)
		}
	}
}

func whiteoutNames(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	for _, name := range []string{".wh.x", ".wh..wh..opq", ".wh.", "d/.wh.dir"} {
		d, f := draft(t, k, nil, snapshot.DraftOptions{})
		NewRoot(t, Path(f)).File(name, "1")
		_, err := d.Commit(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("commit of a file %s: %v, want an error that names it", name, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func epoch(t *testing.T, kind snapshot.Kind) {
	k := Open(t, t.TempDir(), kind)
	limit := time.Unix(1_500_000_000, 0)
	make := func(layers []image.Layer) image.Layer {
		d, f := draft(t, k, layers, snapshot.DraftOptions{})
		r := NewRoot(t, Path(f))
		r.Remove("d")
		r.File("d/old", "1")
		r.Times("d/old", time.Unix(1_000_000_000, 5))
		r.File("d/new", "1")
		layer, err := d.Commit(t.Context(), &limit)
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		return layer
	}
	first, second := make(nil), make(nil)
	if first.DiffID != second.DiffID {
		t.Errorf("layers %s and %s, want the same", first.DiffID, second.DiffID)
	}
	again := make([]image.Layer{first})
	if names := layerNames(t, k, again); len(names) != 0 {
		t.Errorf("the same files, made again, are in the layer: %q", names)
	}
	young := Commit(t, k, nil, func(r Root) { r.File("d/young", "1"); r.File("e/young", "1") })
	d, f := draft(t, k, []image.Layer{young}, snapshot.DraftOptions{})
	NewRoot(t, Path(f)).File("d/new", "1")
	beside, err := d.Commit(t.Context(), &limit)
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	if names := layerNames(t, k, beside); !slices.Equal(names, []string{"d", "d/new"}) {
		t.Errorf("a new file beside files that are younger than the epoch: %q", names)
	}
	view, err := k.Store.View(t.Context(), []image.Layer{first})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for name, want := range map[string]time.Time{"d/old": time.Unix(1_000_000_000, 5), "d/new": limit, "d": limit} {
		if e, err := view.Lstat(name); err != nil || !e.ModTime.Equal(want) {
			t.Errorf("%s: %v %v, want %v", name, e.ModTime, err, want)
		}
	}
}

func nothingLeft(t *testing.T, kind snapshot.Kind) {
	root := t.TempDir()
	t.Run("store", func(t *testing.T) {
		k := Open(t, root, kind)
		layer := Commit(t, k, nil, func(r Root) { r.File(strings.Repeat("d/", 200)+"f", "1"); r.Chmod("d/d", 0) })
		d, f := draft(t, k, []image.Layer{layer}, snapshot.DraftOptions{})
		// Deeper than anybody can hold open, and than a path can name.
		deepTree(t, Path(f))
		if now := Mounts(t, root); len(now) > 0 {
			t.Errorf("mounted on this machine with a draft: %q", now)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if now := Mounts(t, root); len(now) > 0 {
		t.Errorf("mounted on this machine: %q", now)
	}
	empty(t, filepath.Join(root, "drafts"))
}

// deepTree makes 3000 directories in each other.
func deepTree(t *testing.T, path string) {
	t.Helper()
	root, err := os.OpenRoot(path)
	for range 3000 {
		if err != nil {
			t.Fatal(err)
		}
		if err = root.Mkdir("deep", 0o700); err != nil {
			t.Fatal(err)
		}
		next, openErr := root.OpenRoot("deep")
		err = errors.Join(openErr, root.Close())
		root = next
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
}

// sweep leaves what lives and takes what is dead.
func sweep(t *testing.T, kind snapshot.Kind) {
	root := t.TempDir()
	k := Open(t, root, kind)
	d, f := draft(t, k, nil, snapshot.DraftOptions{})
	defer d.Close()
	NewRoot(t, Path(f)).File("alive", "1")
	dead := filepath.Join(root, "drafts", "12345", "1", "upper")
	err := os.MkdirAll(dead, 0o700)
	for errors.Is(err, fs.ErrNotExist) { // the first draft has it swept, too, beside this
		err = os.MkdirAll(dead, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(root, "snapshots", strings.Repeat("0", 64)+"~another-boot")
	if err := os.MkdirAll(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Store.Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(root, "drafts", "12345"), tree} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if _, err := os.Lstat(Path(f) + "/alive"); err != nil {
		t.Errorf("a draft in use: %v", err)
	}
}

// otherProcess opens what another store, as of another process, has made.
func otherProcess(t *testing.T, kind snapshot.Kind) {
	root := t.TempDir()
	var layers []image.Layer
	var want []string
	t.Run("first", func(t *testing.T) {
		k := Open(t, root, kind)
		layers = append(layers, Commit(t, k, nil, func(r Root) { r.File("d/a", "1"); r.File("d/b", "1") }))
		layers = append(layers, Commit(t, k, layers, func(r Root) {
			r.Remove("d/a")
			want = ListDir(t, r.path)
		}))
		if err := k.Layout.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	CompareLayers(t, Open(t, root, kind), layers, want)
}

func draft(t testing.TB, k *Kit, layers []image.Layer, o snapshot.DraftOptions) (*snapshot.Draft, *os.File) {
	t.Helper()
	d, err := k.Store.Draft(t.Context(), layers, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Mount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d, f
}

// Mounts lists what is mounted on this machine out of a state directory. An EROFS mount does not tell where it is from, but
// that it was made by descriptor.
func Mounts(t testing.TB, root string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, root) || strings.Contains(line, "/proc/self/fd/") {
			list = append(list, line)
		}
	}
	return list
}

func empty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s/%s is left", dir, e.Name())
	}
}
