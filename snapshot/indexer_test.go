package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// viewOfTar reads a tar in memory.
func viewOfTar(data []byte) (*View, error) {
	x := newIndexer(nil)
	if err := x.readHeaders(context.Background(), bytes.NewReader(data), int64(len(data))); err != nil {
		return nil, err
	}
	if err := x.finish(); err != nil {
		return nil, err
	}
	return viewOfIndex(x, data)
}

func viewOfIndex(x *Indexer, data []byte) (*View, error) {
	var out bytes.Buffer
	if err := x.index.Encode(&out, erofs.Tar{Size: int64(len(data))}); err != nil {
		return nil, err
	}
	index, err := erofs.New(out.Bytes())
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("tar", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tar")
	if _, err := f.Write(data); err != nil {
		return nil, err
	}
	return viewOfMetadata(f, index)
}

// viewOfMetadata reads indexes in memory, topmost first, whose contents are all in one tar.
func viewOfMetadata(tar *os.File, list ...*erofs.Metadata) (*View, error) {
	v := new(View)
	for _, x := range list {
		root, err := x.Root()
		if err != nil {
			return nil, err
		}
		v.layers = append(v.layers, &openLayer{
			store: new(Store), index: x, root: root, holders: 1,
			tar: func(int) (io.ReaderAt, error) { return tar, nil }, close: x.Close,
		})
	}
	v.findRoots()
	return v, nil
}

// tarOf writes a tar with archive/tar.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		content := h.Uname // the tests' own use of a field that nobody reads
		h.Uname = ""
		if h.Typeflag == tar.TypeReg || h.Typeflag == 0 {
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, content[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestIndexer(t *testing.T) {
	file := func(name, content string) tar.Header { return tar.Header{Name: name, Uname: content} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	pax := func(h tar.Header, records map[string]string) tar.Header {
		h.PAXRecords, h.Format = records, tar.FormatPAX
		return h
	}
	long := strings.Repeat("long/", 60) + "x"
	for _, test := range []struct {
		name string
		tar  []tar.Header
		want string // or the error
	}{
		{"empty", nil, ""},
		{"names", []tar.Header{file("/a", "1"), file("./b", "2"), file("../../c", "3"), file("d/../e", "4"), file("f//g", "5")}, "a=1 b=2 c=3 e=4 f/ f/g=5"},
		{"later wins", []tar.Header{file("a", "1"), file("a", "22"), dir("b"), file("b/c", "3"), file("b", "4"), file("d", "5"), dir("d/")}, "a=22 b=4 d/"},
		{"directory made anew", []tar.Header{file("a/b/c", "1"), file("a", "2"), dir("a"), file("a/b/d", "3")}, "a/ a/b/ a/b/d=3"},
		{"directory twice", []tar.Header{dir("a"), file("a/b", "1"), dir("a")}, "a/ a/b=1"},
		{"links on the way", []tar.Header{dir("usr/lib"), link("lib", "usr/lib"), file("lib/a", "1"), link("up", "/../usr"), file("up/b", "2")}, "lib->usr/lib up->/../usr usr/ usr/b=2 usr/lib/ usr/lib/a=1"},
		{"link to nothing on the way", []tar.Header{link("a", "b/c"), file("a/d", "1")}, "a->b/c b/ b/c/ b/c/d=1"},
		{"hard links", []tar.Header{file("a", "1"), hard("b", "a"), hard("c/d", "/b"), file("a", "2")}, "a=2 b=1 c/ c/d=1"},
		{"long names", []tar.Header{{Name: long, Uname: "1", Format: tar.FormatGNU}, link("l", long)}, ""},
		{"whiteouts", []tar.Header{file("a", "1"), file(".wh.a", ""), file(".wh.b", ""), file("c/.wh..wh..opq", ""), file("c/d", "2"), file(".wh..wh.plnk/1.2", "")}, "a=1 c/ c/d=2"},
		{"attributes", []tar.Header{pax(file("a", "1"), map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "x", "SCHILY.xattr.user.overlay.x": "y"})}, "a=1"},

		{"root is a file", []tar.Header{link(".", "x")}, "the root can only be a directory"},
		{"root is a hard link", []tar.Header{file("a", ""), hard("/", "a")}, "the root can only be a directory"},
		{"hard link to nothing", []tar.Header{hard("a", "b")}, "hard link to b: no such file or directory"},
		{"hard link to a directory", []tar.Header{dir("a"), hard("b", "a")}, "hard link to a, which is no file"},
		{"hard link to a whiteout", []tar.Header{file(".wh.a", ""), hard("b", "a")}, "hard link to a, which is no file"},
		{"file on the way", []tar.Header{file("a", ""), file("a/b", "")}, "not a directory"},
		{"loop", []tar.Header{link("a", "b"), link("b", "a"), file("a/c", "")}, "too many levels of symbolic links"},
		{"odd whiteouts", []tar.Header{file("a/.wh.", "")}, "whiteout of no file"},
		{"odd whiteouts", []tar.Header{file(".wh..", "")}, "whiteout of no file"},
		{"odd whiteouts", []tar.Header{file(".wh...", "")}, "whiteout of no file"},
		{"odd whiteouts", []tar.Header{file(".wh.a/b", "")}, "whiteout of no file"},
		{"odd whiteouts", []tar.Header{file(".wh.a/.wh.b", "")}, "whiteout of no file"},
		{"long component", []tar.Header{pax(file(strings.Repeat("x", 256), ""), nil)}, "name of 256 bytes"},
		{"long name", []tar.Header{pax(file(strings.Repeat("x/", 2100), ""), nil)}, "name of 4200 bytes"},
		{"long link", []tar.Header{pax(link("a", strings.Repeat("x", 4097)), nil)}, "symbolic link to a name of 4097 bytes"},
		{"big attribute", []tar.Header{pax(file("a", ""), map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 65536)})}, "value of 65536 bytes is too long"},
		{"device number", []tar.Header{{Name: "a", Typeflag: tar.TypeChar, Devmajor: 4096}}, "device number 4096:0 is too big"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, err := viewOfTar(tarOf(t, test.tar...))
			if err != nil {
				if test.want == "" || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				return
			}
			if got := opsOf(t, v); got != test.want && test.want != "" {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if test.name == "long names" {
				if e, err := v.Lstat("l"); err != nil || e.Link != long {
					t.Errorf("link to %s, %v", e.Link, err)
				}
				if _, err := v.Lstat(long); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Whiteouts of a layer hide what lies below and nothing of the layer, wherever in the tar they are, also where it is mounted. A file
// that a directory takes the place of hides as much.
func TestIndexerWhiteouts(t *testing.T) { eachKind(t, testIndexerWhiteouts) }

func testIndexerWhiteouts(t *testing.T, s *Store) {
	base := commitOps(t, s, "a/", "a/b=1", "f=1")
	for _, test := range []struct{ names, want string }{
		{".wh.a a/ a/c", "a/ a/c=2 f=1"},
		{"a/ a/c .wh.a", "a/ a/c=2 f=1"},
		{".wh.a a/c", "a/ a/c=2 f=1"},
		{"a/ a/.wh..wh..opq a/ a/c", "a/ a/c=2 f=1"},
		{"a/c a/.wh..wh..opq", "a/ a/c=2 f=1"},
		{".wh.f f .wh.f", "a/ a/b=1 f=2"},
		{"a/c .wh.f .wh.f", "a/ a/b=1 a/c=2"},
		{".wh..wh..opq", ""},
		{".wh..wh..opq f d/e", "d/ d/e=2 f=2"},
		{".wh.a a a/", "a/ f=1"},
		{"a .wh.a a/ a/c", "a/ a/c=2 f=1"},
		{"a a/ a/c", "a/ a/c=2 f=1"},
		{".wh.a .wh.nothing", "f=1"},
	} {
		var headers []tar.Header
		for name := range strings.FieldsSeq(test.names) {
			h := tar.Header{Name: name}
			if strings.HasSuffix(name, "/") {
				h.Typeflag, h.Mode = tar.TypeDir, 0o755
			} else if !strings.Contains(name, layertar.WhiteoutPrefix) {
				h.Uname = "2"
			}
			headers = append(headers, h)
		}
		layer := storeTar(t, s, tarOf(t, headers...))
		if got := opsOf(t, viewOf(t, s, base, layer)); got != test.want {
			t.Errorf("%s: view is %s, want %s", test.names, got, test.want)
		}
		mount, err := s.Mount(t.Context(), []image.Layer{base, layer})
		if err != nil {
			t.Fatal(err)
		}
		if got := opsOf(t, OpenLive(mount)); got != test.want {
			t.Errorf("%s: mount is %s, want %s", test.names, got, test.want)
		}
		if err := mount.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A draft on an opaque root shows nothing of what lies below that, and its layer removes what it shows.
func TestOpaqueRoot(t *testing.T) { eachKind(t, testOpaqueRoot) }

func testOpaqueRoot(t *testing.T, s *Store) {
	base := commitOps(t, s, "gone=1", "d/", "d/x=1")
	layers := []image.Layer{base, storeTar(t, s, tarOf(t, tar.Header{Name: ".wh..wh..opq"}, tar.Header{Name: "d/y", Uname: "2"}))}
	if err := s.Ahead(t.Context(), layers); err != nil {
		t.Fatal(err)
	}
	d, err := s.Draft(t.Context(), layers, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := opsOf(t, OpenLive(d.root)), "d/ d/y=2"; got != want {
		t.Errorf("draft is %s, want %s", got, want)
	}
	if err := os.RemoveAll(procPath(int(d.root.Fd())) + "/d"); err != nil {
		t.Fatal(err)
	}
	layer, err := d.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := changed(t, s, layer), "-d"; got != want {
		t.Errorf("layer has %s, want %s", got, want)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestIndexerLimits(t *testing.T) {
	for kind, size := range map[byte]int64{'x': 1<<20 + 1, 'g': 1 << 40, 'L': 4098, 'K': 5000} {
		_, err := newIndexer(nil).Write(rawHeader("x", kind, min(size, 1<<33-1)))
		if want := fmt.Sprintf("header of type %c with", kind); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A tar that is cut anywhere is an error, but where an entry ends.
func TestIndexerTruncated(t *testing.T) {
	data := tarOf(t, tar.Header{Name: "a", Uname: "some text"}, tar.Header{Name: strings.Repeat("x", 120), Uname: strings.Repeat("b", 600), Format: tar.FormatPAX})
	whole := map[int]bool{len(data) - 1024: true, len(data) - 512: true, len(data): true, 1024: true, 0: true}
	for n := range len(data) + 1 {
		_, err := viewOfTar(data[:n])
		if ok := err == nil; ok != whole[n] {
			t.Errorf("%d of %d bytes: %v", n, len(data), err)
		}
	}
}

// randomTar writes a tar with many accidents in it.
func randomTar(r *rand.Rand) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	names := []string{"a", "b", "c", "d", ".wh.a", ".wh..wh..opq", "..", "!", ".-", strings.Repeat("n", 110)}
	name := func() string {
		s := names[r.IntN(len(names))]
		for r.IntN(2) == 0 {
			s += "/" + names[r.IntN(len(names))]
		}
		return s
	}
	for range r.IntN(25) {
		h := &tar.Header{Name: name(), Mode: int64(r.IntN(0o10000)), Uid: r.IntN(1 << (1 + r.IntN(31))), Gid: r.IntN(9), ModTime: time.Unix(r.Int64N(1<<31), 0)}
		h.Format = []tar.Format{tar.FormatPAX, tar.FormatGNU}[r.IntN(2)]
		if h.Format == tar.FormatPAX && r.IntN(3) == 0 {
			h.ModTime = h.ModTime.Add(time.Duration(r.IntN(1e9)))
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": name()}
		}
		content := ""
		switch r.IntN(8) {
		case 0, 1, 2:
			h.Typeflag = tar.TypeReg
			content = strings.Repeat(name()+"\n", r.IntN(200))
			h.Size = int64(len(content))
		case 3, 4:
			h.Typeflag = tar.TypeDir
		case 5:
			h.Typeflag, h.Linkname = tar.TypeSymlink, []string{"", "/"}[r.IntN(2)]+name()
		case 6:
			h.Typeflag, h.Linkname = tar.TypeLink, name()
		case 7:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(1+r.IntN(300)), int64(r.IntN(1<<20))
		}
		if w.WriteHeader(h) == nil {
			io.WriteString(w, content)
		}
	}
	w.Close()
	return out.Bytes()
}

// checkTar indexes a tar in both ways and compares with what archive/tar reads and a simple model unpacks.
func checkTar(t *testing.T, data []byte) {
	view, err := viewOfTar(data)
	x := newIndexer(nil)
	for rest := data; len(rest) > 0; {
		n := 1 + int(rest[0])*5
		n = min(n, len(rest))
		if _, err := x.Write(rest[:n]); err != nil {
			break
		}
		rest = rest[n:]
	}
	streamed := x.finish()
	if fmt.Sprint(err) != fmt.Sprint(streamed) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("read: %v, streamed: %v", err, streamed)
	}
	if err != nil {
		return
	}
	huge := errors.New("holes that would take for ever to be read")
	err = filetree.Walk(context.Background(), view, ".", func(_ string, e *Entry, _ *filetree.Sum) error {
		if e.Size > 64<<20 {
			return huge
		}
		return nil
	})
	if err == huge {
		return
	}
	got := listTree(t, view)
	again, err := viewOfIndex(x, data)
	if err != nil {
		t.Fatal(err)
	}
	diffLines(t, listTree(t, again), got)
	want, err := unpackModel(data)
	if err != nil {
		t.Logf("the model says: %v", err)
		return
	}
	diffLines(t, got, want)
}

func TestIndexerRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	good := 0
	for seed := range uint64(1000) {
		data := randomTar(rand.New(rand.NewPCG(seed, 1)))
		checkTar(t, data)
		if _, err := viewOfTar(data); err == nil {
			good++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if good < 130 {
		t.Errorf("only %d of the tars could be indexed", good)
	}
}

func FuzzIndexer(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomTar(rand.New(rand.NewPCG(seed, 1))))
	}
	for _, data := range sparseTars(f) {
		f.Add(data)
	}
	f.Fuzz(checkTar)
}
