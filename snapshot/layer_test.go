package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// openStore opens a store in a directory of the test's own.
func openStore(t testing.TB) *Store {
	t.Helper()
	return openStoreAt(t, t.TempDir())
}

func openStoreAt(t testing.TB, root string) *Store {
	t.Helper()
	st, err := image.OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	l, err := image.OpenLayout(root, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "snapshots"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(root, l, Copy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return s
}

// A testFile is a file to be put into a layer.
type testFile struct {
	path string
	Entry
	content string
	hard    string // a hard link of this path
}

func mode(kind, perm uint32) Entry {
	return Entry{Mode: kind | perm, ModTime: time.Unix(1700000000, 0)}
}

// everyKind has a file of each kind and of each awkward size.
func everyKind() []testFile {
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("d/", 5) + long
	at := func(e Entry, change func(e *Entry)) Entry { change(&e); return e }
	files := []testFile{
		{path: ".", Entry: at(mode(unix.S_IFDIR, 0o711), func(e *Entry) { e.UID = 7 })},
		{path: "!before-dot", Entry: mode(unix.S_IFREG, 0o644), content: "x"},
		{path: ".-between", Entry: mode(unix.S_IFREG, 0o644), content: "y"},
		{path: "big", Entry: mode(unix.S_IFREG, 0o4755), content: strings.Repeat("0123456789abcdef", 40000)},
		{path: "bigger", Entry: mode(unix.S_IFREG, 0o644), content: strings.Repeat("x", 2<<20+1)},
		{path: "biggest", Entry: mode(unix.S_IFREG, 0o644), content: strings.Repeat("y", 3<<20+511)},
		{path: "block", Entry: at(mode(unix.S_IFBLK, 0o660), func(e *Entry) { e.Rdev = unix.Mkdev(259, 70000) })},
		{path: "char", Entry: at(mode(unix.S_IFCHR, 0o666), func(e *Entry) { e.Rdev = unix.Mkdev(1, 3) })},
		{path: "dir", Entry: at(mode(unix.S_IFDIR, 0o1777), func(e *Entry) { e.Xattrs = map[string]string{"user.d": "on a directory"} })},
		{path: "dir/empty", Entry: mode(unix.S_IFREG, 0o600)},
		{path: "dir/none", Entry: mode(unix.S_IFDIR, 0o700)},
		{path: "fifo", Entry: mode(unix.S_IFIFO, 0o600)},
		{path: "first", Entry: mode(unix.S_IFREG, 0o640), content: "linked"},
		{path: "ids", Entry: at(mode(unix.S_IFREG, 0o644), func(e *Entry) { e.UID, e.GID = 4294967294, 3000000 })},
		{path: "link", Entry: at(mode(unix.S_IFLNK, 0o777), func(e *Entry) { e.Link = "dir/empty" })},
		{path: "longlink", Entry: at(mode(unix.S_IFLNK, 0o777), func(e *Entry) { e.Link = strings.Repeat("l", 4095) })},
		{path: "midlink", Entry: at(mode(unix.S_IFLNK, 0o777), func(e *Entry) { e.Link = strings.Repeat("m", 449) })},
		{path: "ns", Entry: at(mode(unix.S_IFREG, 0o644), func(e *Entry) { e.ModTime = time.Unix(1600000000, 123456789) })},
		{path: "old", Entry: at(mode(unix.S_IFREG, 0o644), func(e *Entry) { e.ModTime = time.Unix(-5, 250000000) })},
		{path: "second", hard: "first"},
		{path: "xattr", Entry: at(mode(unix.S_IFREG, 0o644), func(e *Entry) {
			e.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "user.b": "", "user.long": strings.Repeat("v", 3000)}
		}), content: "with attributes"},
	}
	for i, d := 0, strings.Split(deep, "/"); i < len(d)-1; i++ {
		files = append(files, testFile{path: strings.Join(d[:i+1], "/"), Entry: mode(unix.S_IFDIR, 0o755)})
	}
	files = append(files, testFile{path: deep, Entry: mode(unix.S_IFREG, 0o644), content: "deep"})
	return files
}

// writeLayer commits files as a layer.
func writeLayer(t testing.TB, s *Store, files []testFile) image.Layer {
	t.Helper()
	w := s.newLayerWriter(context.Background())
	defer w.Close()
	for _, f := range files {
		var err error
		if f.hard != "" {
			err = w.Link(f.path, f.hard)
		} else {
			f.Size = int64(len(f.content))
			err = w.Add(f.path, f.Entry, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(f.content)), nil })
		}
		if err != nil {
			t.Fatalf("%s: %v", f.path, err)
		}
	}
	layer, err := w.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// viewOf opens a view for the length of the test.
func viewOf(t testing.TB, s *Store, layers ...image.Layer) *View {
	t.Helper()
	v, err := s.View(context.Background(), layers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// describe is an entry as a line of text, with all that a test compares.
func describe(path string, e Entry, content string) string {
	s := fmt.Sprintf("%s %o %d:%d %d.%09d", path, e.Mode, e.UID, e.GID, e.ModTime.Unix(), e.ModTime.Nanosecond())
	if e.Mode&unix.S_IFMT != unix.S_IFDIR {
		s += fmt.Sprintf(" size=%d", e.Size)
	}
	if e.Link != "" {
		s += " -> " + e.Link
	}
	if e.Rdev != 0 {
		s += fmt.Sprintf(" dev=%d:%d", unix.Major(e.Rdev), unix.Minor(e.Rdev))
	}
	if len(e.Xattrs) > 0 {
		s += fmt.Sprintf(" %q", e.Xattrs)
	}
	if e.Mode&unix.S_IFMT == unix.S_IFREG {
		s += " " + string(digest.FromString(content))[7:19]
	}
	return s
}

// listTree describes all that is in a tree, a line each; hard links name the first of them.
func listTree(t testing.TB, tree Tree) []string {
	t.Helper()
	var lines []string
	inodes := make(map[uint64]string)
	var walk func(dir string)
	add := func(path string, e Entry) {
		content := ""
		if e.Mode&unix.S_IFMT == unix.S_IFREG {
			r, err := tree.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			r.Close()
			content = string(b)
		}
		line := describe(path, e, content)
		if first, ok := inodes[e.Inode]; ok {
			line += " = " + first
		} else if e.Mode&unix.S_IFMT != unix.S_IFDIR {
			inodes[e.Inode] = path
		}
		lines = append(lines, line)
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			walk(path)
		}
	}
	walk = func(dir string) {
		list, err := filetree.ReadDir(tree, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			path := filetree.Join(dir, e.Name)
			if one, err := tree.Lstat(path); err != nil || describe(path, one, "") != describe(path, e, "") || one.Nlink != e.Nlink {
				t.Errorf("Lstat(%s) = %v, %v; ReadDir says %v", path, one, err, e)
			}
			add(path, e)
		}
	}
	root, err := tree.Lstat(".")
	if err != nil {
		t.Fatal(err)
	}
	add(".", root)
	return lines
}

// want describes files as listTree does; they are in its order but for the root's.
func wantTree(files []testFile) []string {
	var lines []string
	for _, f := range files {
		if f.hard == "" {
			f.Size = max(int64(len(f.content)), int64(len(f.Link)))
			lines = append(lines, describe(f.path, f.Entry, f.content))
			continue
		}
		for _, g := range files {
			if g.path == f.hard {
				g.Size = int64(len(g.content))
				lines = append(lines, describe(f.path, g.Entry, g.content)+" = "+f.hard)
			}
		}
	}
	return lines
}

func diffLines(t testing.TB, got, want []string) {
	t.Helper()
	in := func(list []string) map[string]bool {
		m := make(map[string]bool)
		for _, l := range list {
			m[l] = true
		}
		return m
	}
	g, w := in(got), in(want)
	for _, l := range got {
		if !w[l] {
			t.Errorf("unexpected: %.300s", l)
		}
	}
	for _, l := range want {
		if !g[l] {
			t.Errorf("missing:    %.300s", l)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
}

func TestLayer(t *testing.T) {
	s := openStore(t)
	files := everyKind()
	layer := writeLayer(t, s, files)
	diffLines(t, listTree(t, viewOf(t, s, layer)), wantTree(files))

	// The tar says the same to another reader.
	f, err := s.layout.OpenTar(context.Background(), layer)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if d := digest.FromBytes(data); d != layer.DiffID || int64(len(data)) != layer.Blob.Size || layer.Blob.Digest != d {
		t.Errorf("tar of %d bytes has digest %s, layer says %d, %s, %s", len(data), d, layer.Blob.Size, layer.Blob.Digest, layer.DiffID)
	}
	diffLines(t, listTar(t, bytes.NewReader(data)), wantTree(files))
	if padded := append(bytes.Repeat([]byte("x"), 2<<20+1), make([]byte, 511)...); !bytes.Contains(data, padded) {
		t.Error("padding is not of zeros")
	}

	// The same index comes of the tar alone.
	made, err := os.ReadFile(indexPath(t, s, layer))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.makeIndex(context.Background(), layer); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(indexPath(t, s, layer))
	if err != nil || !bytes.Equal(made, again) {
		t.Errorf("index made of the tar differs (%v)", err)
	}
	x := s.Indexer()
	for rest := data; len(rest) > 0; {
		n := min(1+rand.IntN(2000), len(rest))
		if _, err := x.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := x.finish(); err != nil {
		t.Fatal(err)
	}
	var streamed bytes.Buffer
	sum, _ := sumOf(layer.DiffID)
	if err := x.index.Encode(&streamed, erofs.Tar{DiffID: sum, Size: x.pos}); err != nil || !bytes.Equal(made, streamed.Bytes()) {
		t.Errorf("index made of the stream differs (%v)", err)
	}

	if again := writeLayer(t, s, files); again.DiffID != layer.DiffID {
		t.Errorf("the same files gave %s, then %s", layer.DiffID, again.DiffID)
	}
}

func indexPath(t testing.TB, s *Store, l image.Layer) string {
	t.Helper()
	path, err := s.layout.Staging().Lookup(s.snapshotPath(l.DiffID, ".erofs"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// listTar describes a tar as listTree does a tree, by archive/tar.
func listTar(t testing.TB, r io.Reader) []string {
	t.Helper()
	var lines []string
	linked := make(map[string]string)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Clean(h.Name)
		e := Entry{Mode: uint32(h.Mode), UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime, Size: h.Size, Link: h.Linkname}
		kinds := map[byte]uint32{'0': unix.S_IFREG, '2': unix.S_IFLNK, '3': unix.S_IFCHR, '4': unix.S_IFBLK, '5': unix.S_IFDIR, '6': unix.S_IFIFO}
		e.Mode |= kinds[h.Typeflag]
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			e.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		}
		if h.Typeflag == tar.TypeSymlink {
			e.Size = int64(len(h.Linkname))
		}
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				if e.Xattrs == nil {
					e.Xattrs = make(map[string]string)
				}
				e.Xattrs[name] = value
			}
		}
		if h.Typeflag == tar.TypeLink {
			lines = append(lines, strings.Replace(linked[h.Linkname], h.Linkname, path, 1)+" = "+h.Linkname)
			continue
		}
		linked[path] = describe(path, e, string(b))
		lines = append(lines, linked[path])
	}
}

// storeTar puts a tar into the store as a layer that came from outside.
func storeTar(t testing.TB, s *Store, data []byte) image.Layer {
	t.Helper()
	d := digest.FromBytes(data)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(data))}
	if _, err := s.layout.Push(context.Background(), desc, image.Bytes(data)); err != nil {
		t.Fatal(err)
	}
	layer := image.Layer{Blob: desc, DiffID: d}
	f, err := s.ensureIndex(context.Background(), layer)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return layer
}
