package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// commitOps commits a layer that is told in few words: "path/" is a directory, "-path" a whiteout, "path!" an opaque
// directory, "path->target" a link, and "path=text" a file.
func commitOps(t testing.TB, s *Store, ops ...string) image.Layer {
	t.Helper()
	w := s.newLayerWriter(context.Background())
	defer w.Close()
	for _, op := range ops {
		var err error
		switch name, text, isFile := strings.Cut(op, "="); {
		case strings.HasPrefix(op, "-"):
			err = w.Whiteout(op[1:])
		case strings.HasSuffix(op, "!"):
			path := op[:len(op)-1]
			err = errors.Join(w.Add(path, mode(unix.S_IFDIR, 0o755), nil), opaque(w, path))
		case strings.HasSuffix(op, "/"):
			err = w.Add(op[:len(op)-1], mode(unix.S_IFDIR, 0o755), nil)
		case strings.Contains(op, "->"):
			name, link, _ := strings.Cut(op, "->")
			e := mode(unix.S_IFLNK, 0o777)
			e.Link = link
			err = w.Add(name, e, nil)
		case isFile:
			e := mode(unix.S_IFREG, 0o644)
			e.Size = int64(len(text))
			err = w.Add(name, e, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })
		}
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	layer, err := w.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// opaque hides what lies below a directory, as other builders do.
func opaque(w *layerWriter, path string) error {
	_, err := w.tar.Add(filetree.Join(path, layertar.WhiteoutOpaque), &Entry{Mode: unix.S_IFREG}, "", nil)
	return errors.Join(err, w.index.Opaque(path))
}

func opsView(t testing.TB, s *Store, layers ...[]string) *View {
	t.Helper()
	var list []image.Layer
	for _, ops := range layers {
		list = append(list, commitOps(t, s, ops...))
	}
	return viewOf(t, s, list...)
}

// opsOf says what is in a tree as commitOps takes it.
func opsOf(t testing.TB, tree Tree) string {
	t.Helper()
	var ops []string
	var walk func(dir string)
	walk = func(dir string) {
		list, err := filetree.ReadDir(tree, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			path := filetree.Join(dir, e.Name)
			switch e.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				ops = append(ops, path+"/")
				walk(path)
			case unix.S_IFLNK:
				ops = append(ops, path+"->"+e.Link)
			case unix.S_IFREG:
				r, err := tree.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				ops = append(ops, path+"="+string(b))
			default:
				ops = append(ops, path)
			}
		}
	}
	walk(".")
	return strings.Join(ops, " ")
}

func TestView(t *testing.T) {
	for _, test := range []struct {
		name   string
		layers [][]string
		want   string
	}{
		{"no layers", nil, ""},
		{"one", [][]string{{"a/", "a/b=1"}}, "a/ a/b=1"},
		{"merged", [][]string{{"a/", "a/b=1", "a/d=1"}, {"a/", "a/a=2", "a/c=2", "a/d=2"}}, "a/ a/a=2 a/b=1 a/c=2 a/d=2"},
		{"whiteout", [][]string{{"a/", "a/b=1", "c=1"}, {"a/", "-a/b"}, {"d=3"}}, "a/ c=1 d=3"},
		{"whiteout of a directory", [][]string{{"a/", "a/b=1"}, {"-a"}, {"a/", "a/c=3"}}, "a/ a/c=3"},
		{"whiteout, then again", [][]string{{"a=1"}, {"-a"}, {"a=3"}}, "a=3"},
		{"opaque", [][]string{{"a/", "a/b=1", "a/c/", "a/c/d=1"}, {"a!", "a/c/", "a/c/e=2"}, {"a/", "a/f=3"}}, "a/ a/c/ a/c/e=2 a/f=3"},
		{"file over directory", [][]string{{"a/", "a/b=1"}, {"a=2"}}, "a=2"},
		{"directory over file over directory", [][]string{{"a/", "a/b=1"}, {"a=2"}, {"a/", "a/c=3"}}, "a/ a/c=3"},
		{"link over directory", [][]string{{"a/", "a/b=1"}, {"a->x"}}, "a->x"},
		{"whiteout of nothing", [][]string{{"b=1"}, {"-a", "-b"}}, ""},
		{"opaque root", [][]string{{"b=1"}, {".!", "a=2"}, {"c=3"}}, "a=2 c=3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := opsOf(t, opsView(t, openStore(t), test.layers...)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestViewErrors(t *testing.T) {
	v := opsView(t, openStore(t), []string{"d/", "d/f=text", "l->d"}, []string{"x=1"})
	lstat := func(name string) error { _, err := v.Lstat(name); return err }
	open := func(name string) error { _, err := v.Open(name); return err }
	list := func(name string) error { _, err := filetree.ReadDir(v, name); return err }
	for _, test := range []struct {
		what string
		err  error
		want error
	}{
		{"missing", lstat("y"), fs.ErrNotExist},
		{"in missing", lstat("y/z"), fs.ErrNotExist},
		{"in a file", lstat("d/f/g"), unix.ENOTDIR},
		{"in a link", lstat("l/f"), unix.ENOTDIR},
		{"the parent", lstat("d/.."), fs.ErrNotExist},
		{"itself", lstat("d/."), fs.ErrNotExist},
		{"a slash at the end", lstat("d/"), fs.ErrNotExist},
		{"open a directory", open("d"), unix.EISDIR},
		{"open a link", open("l"), unix.EINVAL},
		{"list a file", list("d/f"), unix.ENOTDIR},
		{"list a link", list("l"), unix.ENOTDIR},
		{"list nothing", list("y"), fs.ErrNotExist},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", test.what, test.err, test.want)
		}
	}
}

// A directory that a layer has only because something is in it says nothing of its own mode.
func TestViewImplied(t *testing.T) {
	s := openStore(t)
	w := s.newLayerWriter(context.Background())
	defer w.Close()
	root := mode(unix.S_IFDIR, 0o700)
	if err := errors.Join(w.Add(".", root, nil), w.Add("tmp", mode(unix.S_IFDIR, 0o1777), nil)); err != nil {
		t.Fatal(err)
	}
	base, err := w.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(t, s, base, commitOps(t, s, "tmp/file=x"))
	for name, want := range map[string]uint32{".": 0o700, "tmp": 0o1777} {
		e, err := v.Lstat(name)
		if err != nil || e.Mode&filetree.ModePerm != want {
			t.Errorf("%s has mode %o, want %o (%v)", name, e.Mode&filetree.ModePerm, want, err)
		}
	}
	list, err := filetree.ReadDir(v, ".")
	if err != nil || len(list) != 1 || list[0].Mode&filetree.ModePerm != 0o1777 {
		t.Errorf("ReadDir says %v, %v", list, err)
	}
}

func TestViewHeals(t *testing.T) {
	s := openStore(t)
	layer := commitOps(t, s, "a=1")
	path := indexPath(t, s, layer)
	for _, damage := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.Truncate(path, 100) },
		func() error { return os.WriteFile(path, make([]byte, 8192), 0o600) },
		func() error { // one bit of the time of a file
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[indexHead+64+32] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
	} {
		if err := s.layout.Publish(context.Background()); err != nil {
			t.Fatal(err)
		}
		path = indexPath(t, s, layer)
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		v, err := s.View(context.Background(), []image.Layer{layer})
		if err != nil {
			t.Fatal(err)
		}
		if got := opsOf(t, v); got != "a=1" {
			t.Errorf("got %s", got)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	layer.DiffID = "sha256:" + layer.DiffID[7:8] + layer.DiffID[7:70]
	layer.Blob.Digest = layer.DiffID
	if _, err := s.View(context.Background(), []image.Layer{layer}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is not here: %v", err)
	}
}

// Digests of contents outlive the view, and a file of them that is not whole is not believed.
func TestViewDigest(t *testing.T) {
	s := openStore(t)
	text := strings.Repeat("some text ", 50000)
	layer := commitOps(t, s, "a="+text, "b=", "d/", "l->a")
	other := commitOps(t, s, "c="+text+text)
	path := s.snapshotPath(layer.DiffID, ".sums")
	check := func(when string, known bool) {
		t.Helper()
		v, err := s.View(context.Background(), []image.Layer{layer, other})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		found, err := v.find("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := v.layers[1].sums.get(found[0].Slot); ok != known {
			t.Errorf("%s: digest known: %v", when, ok)
		}
		for name, content := range map[string]string{"a": text, "b": "", "c": text + text} {
			if d, err := v.Sum(t.Context(), name); err != nil || d != sha256.Sum256([]byte(content)) {
				t.Errorf("%s: Sum(%s) = %x, %v", when, name, d, err)
			}
		}
		for name, want := range map[string]error{"d": unix.EISDIR, "l": unix.EINVAL, "x": fs.ErrNotExist, ".": unix.EISDIR} {
			if _, err := v.Sum(t.Context(), name); !errors.Is(err, want) {
				t.Errorf("%s: Sum(%s): %v, want %v", when, name, err, want)
			}
		}
	}
	publish := func() {
		t.Helper()
		if err := s.layout.Publish(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	check("first", false)
	check("staged", true)
	publish()
	check("published", true)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-40]++
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	check("damaged", false)
	publish()
	check("written again", true)
	if err := os.Rename(s.snapshotPath(other.DiffID, ".sums"), path); err != nil {
		t.Fatal(err)
	}
	check("of another layer", false)
}

// Views of one layer share what they read of it, until the last of them is closed.
func TestViewsShare(t *testing.T) {
	s := openStore(t)
	layers := []image.Layer{commitOps(t, s, "a=1"), commitOps(t, s, "b=2")}
	one, two := viewOf(t, s, layers...), viewOf(t, s, layers[1], layers[0], layers[1])
	if n := len(s.open.m); n != 2 {
		t.Errorf("%d layers are open, want 2", n)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if got := opsOf(t, two); got != "a=1 b=2" {
		t.Errorf("got %s", got)
	}
	missing := layers[0]
	missing.DiffID = "sha256:" + missing.DiffID[7:8] + missing.DiffID[7:70]
	missing.Blob.Digest = missing.DiffID
	if _, err := s.View(context.Background(), []image.Layer{layers[0], missing}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that is not here: %v", err)
	}
	if err := two.Close(); err != nil || len(s.open.m) != 0 {
		t.Errorf("%d layers are open in the end, %v", len(s.open.m), err)
	}
}

// A view of hundreds of layers costs a map for each, however many views there are.
func TestManyViews(t *testing.T) {
	s := openStore(t)
	var layers []image.Layer
	for i := range 300 {
		layers = append(layers, commitOps(t, s, fmt.Sprintf("f%d=", i)))
		viewOf(t, s, layers...)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if n := bytes.Count(maps, []byte(s.root)); err != nil || n > 310 {
		t.Errorf("%d maps of 300 layers, %v", n, err)
	}
}
