package snapshot_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"
)

// imported is a directory with what Import makes of a tar.
func imported(t *testing.T, r io.Reader) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return dir, snapshot.Import(t.Context(), r, f, nil)
}

func live(t *testing.T, dir string) *snapshot.Live {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return snapshot.OpenLive(f)
}

// TestImport holds that Import is Export turned round: names, contents, holes, modes, owners, nanoseconds, links and attributes.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	must(
		os.MkdirAll(at("a/b/c"), 0o755), os.MkdirAll(at("a.d"), 0o700), os.MkdirAll(at("z/closed"), 0o755),
		os.WriteFile(at("a/b/c/file"), bytes.Repeat([]byte("content "), 100_000), 0o640),
		os.WriteFile(at("a/b/empty"), nil, 0o400),
		os.WriteFile(at(strings.Repeat("n", 200)), []byte("long"), 0o644),
		os.WriteFile(at(".wh.x"), []byte("no whiteout here"), 0o644),
		os.WriteFile(at("sparse"), nil, 0o644), os.Truncate(at("sparse"), 10<<20),
		os.Link(at("a/b/c/file"), at("z/link")),
		os.Symlink("../../../../etc", at("a/out")),
		syscall.Mkfifo(at("z/fifo"), 0o620),
		os.WriteFile(at("z/closed/in"), []byte("in"), 0o444), os.Chmod(at("z/closed"), 0o555),
	)
	if os.Geteuid() == 0 {
		must(os.Lchown(at("a/out"), 5, 6), os.Chown(at("a/b/c/file"), 1000, 2_100_000), unix.Setxattr(at("a/b"), "user.x", []byte("y\x00"), 0))
	}
	for i, name := range []string{"a/b/c/file", "a/b/c", "a/b", "a", "z/closed"} {
		when := time.Unix(1_700_000_000+int64(i), 123_456_789)
		must(os.Chtimes(at(name), when, when))
	}
	var stream, again bytes.Buffer
	must(snapshot.Export(t.Context(), live(t, dir), &stream), snapshot.Export(t.Context(), live(t, dir), &again))
	if !bytes.Equal(stream.Bytes(), again.Bytes()) {
		t.Error("two exports of a directory differ")
	}
	got, err := imported(t, bytes.NewReader(stream.Bytes()))
	must(err)
	differences, err := snapshot.Compare(t.Context(), live(t, dir), live(t, got))
	must(err)
	for _, d := range differences {
		if d.Path != "." { // whose owner, mode and time are who made it's
			t.Error(d)
		}
	}
	var st syscall.Stat_t
	must(syscall.Stat(filepath.Join(got, "sparse"), &st))
	if st.Blocks > 0 {
		t.Errorf("the file that was a hole has %d blocks", st.Blocks)
	}
	for cut := 0; cut < stream.Len()-2*512; cut += max(stream.Len()/40, 1) {
		if _, err := imported(t, bytes.NewReader(stream.Bytes()[:cut])); err == nil && cut > 0 {
			t.Errorf("%d of %d bytes were taken for a whole tar", cut, stream.Len())
		}
	}
}

// TestImportForged holds that a tar from an enemy writes nothing outside of the directory, makes no devices and gives no power.
func TestImportForged(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers []tar.Header
		want    string // in the error; "" is none
	}{
		{"up", []tar.Header{{Name: "../../x", Typeflag: tar.TypeReg}}, ""}, // the root cannot be left: it is x
		{"through a link", []tar.Header{{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, {Name: "l/x", Typeflag: tar.TypeReg}}, "not in the directory"},
		{"link for directory", []tar.Header{
			{Name: "d/", Typeflag: tar.TypeDir},
			{Name: "e", Typeflag: tar.TypeReg},
			{Name: "d", Linkname: "..", Typeflag: tar.TypeSymlink},
			{Name: "d/x", Typeflag: tar.TypeReg},
		}, "cannot overwrite"},
		{"hard link up", []tar.Header{{Name: "h", Linkname: "../../outside", Typeflag: tar.TypeLink}}, "no such file"},
		{"hard link through a link", []tar.Header{
			{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, {Name: "h", Linkname: "l/outside", Typeflag: tar.TypeLink},
		}, "too many levels of symbolic links"},
		{"device", []tar.Header{{Name: "d", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, "has no place here"},
		{"no directory", []tar.Header{{Name: "a/b", Typeflag: tar.TypeReg}}, "not in the directory"},
		{"root", []tar.Header{{Name: "./", Typeflag: tar.TypeDir}}, "not in the directory"},
		{"deep", deepTar(), "not in the directory"},
		{"set-uid", []tar.Header{{Name: "x", Typeflag: tar.TypeReg, Mode: 0o6755}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range test.headers {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			dir, err := imported(t, &b)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if beside, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(beside) != 1 {
				t.Errorf("beside the directory: %v, %v", beside, err)
			}
			if st, err := os.Lstat(filepath.Join(dir, "x")); err == nil && st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
				t.Errorf("x has mode %v", st.Mode())
			}
		})
	}
}

func deepTar() []tar.Header {
	return slices.Collect(func(yield func(tar.Header) bool) {
		for n := 1; n < 400 && yield(tar.Header{Name: strings.Repeat("d/", n), Typeflag: tar.TypeDir}); n++ {
		}
	})
}
