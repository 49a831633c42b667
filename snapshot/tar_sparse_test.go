package snapshot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// sparseTars are a file "s" of 20000 bytes with text at 4096 and at its end, and a file "t" after it, in each of GNU
// tar's ways.
func sparseTars(t testing.TB) map[string][]byte {
	pieces := []filetree.Extent{{Size: 512, At: 4096}, {Size: 3616, At: 16384}, {Size: 0, At: 20000}}
	content := append(bytes.Repeat([]byte("a"), 512), bytes.Repeat([]byte("b"), 3616)...)
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&(layertar.Block-1))...) }
	rest, err := layertar.AppendHeader(nil, "t", &Entry{Mode: unix.S_IFREG, Size: 4}, "")
	if err != nil {
		t.Fatal(err)
	}
	rest = append(pad(append(rest, "last"...)), make([]byte, 1024)...)

	b := rawHeader("s", 'S', int64(len(content)))
	fields := func(b []byte, pieces []filetree.Extent) {
		for i, p := range pieces {
			putOctal(b[24*i:24*i+12], uint64(p.At))
			putOctal(b[24*i+12:24*i+24], uint64(p.Size))
		}
	}
	fields(b[386:], pieces)
	putOctal(b[483:495], 20000)
	checksum(b)
	inHeader := append(pad(append(b, content...)), rest...)

	b = rawHeader("s", 'S', int64(len(content)))
	fields(b[386:], []filetree.Extent{{At: 0}, {At: 100}, {At: 200}, {At: 300}})
	putOctal(b[483:495], 20000)
	b[482] = 1
	checksum(b)
	more := make([]byte, layertar.Block)
	fields(more, pieces)
	extended := append(pad(append(append(b, more...), content...)), rest...)

	paxed := func(records, data []byte) []byte {
		b := pad(append(rawHeader("PaxHeader", 'x', int64(len(records))), records...))
		return append(pad(append(append(b, rawHeader("GNUSparseFile.0/s", '0', int64(len(data)))...), data...)), rest...)
	}
	var zero, one, list []byte
	one = appendRecord(one, "GNU.sparse.size", "20000")
	one = appendRecord(one, "GNU.sparse.numblocks", "3")
	zero = append(zero, one...)
	one = appendRecord(one, "GNU.sparse.name", "s")
	var words []string
	lines := "3\n"
	for _, p := range pieces {
		zero = appendRecord(zero, "GNU.sparse.offset", fmt.Sprint(p.At))
		zero = appendRecord(zero, "GNU.sparse.numbytes", fmt.Sprint(p.Size))
		words = append(words, fmt.Sprint(p.At), fmt.Sprint(p.Size))
		lines += fmt.Sprintf("%d\n%d\n", p.At, p.Size)
	}
	zero = appendRecord(zero, "path", "s")
	one = appendRecord(one, "GNU.sparse.map", strings.Join(words, ","))
	list = appendRecord(list, "GNU.sparse.major", "1")
	list = appendRecord(list, "GNU.sparse.minor", "0")
	list = appendRecord(list, "GNU.sparse.name", "s")
	list = appendRecord(list, "GNU.sparse.realsize", "20000")
	return map[string][]byte{
		"in the header":     inHeader,
		"in an extra block": extended,
		"version 0.0":       paxed(zero, content),
		"version 0.1":       paxed(one, content),
		"version 1.0":       paxed(list, append(pad([]byte(lines)), content...)),
	}
}

// rawHeader is a header block of GNU's format.
func rawHeader(name string, kind byte, size int64) []byte {
	b := make([]byte, layertar.Block)
	copy(b, name)
	copy(b[100:], "0000644")
	putOctal(b[124:136], uint64(size))
	b[156] = kind
	checksum(b)
	return b
}

// checksum puts the sum of a header into it.
func checksum(b []byte) {
	copy(b[257:], "ustar  \x00") // GNU's
	copy(b[148:156], "        ")
	sum := uint64(0)
	for _, c := range b {
		sum += uint64(c)
	}
	putOctal(b[148:155], sum)
}

// putOctal fills a field but for a zero at its end.
func putOctal(field []byte, n uint64) { copy(field, fmt.Sprintf("%0*o", len(field)-1, n)) }

// appendRecord renders "length key=value\n", where the length counts itself.
func appendRecord(b []byte, key, value string) []byte {
	n := len(key) + len(value) + 3
	for len(fmt.Sprint(n))+len(key)+len(value)+3 > n {
		n++
	}
	return fmt.Appendf(b, "%d %s=%s\n", n, key, value)
}

func TestSparse(t *testing.T) {
	want := make([]byte, 20000)
	copy(want[4096:], bytes.Repeat([]byte("a"), 512))
	copy(want[16384:], bytes.Repeat([]byte("b"), 3616))
	for name, data := range sparseTars(t) {
		t.Run(name, func(t *testing.T) {
			checkTar(t, data)
			v, err := viewOfTar(data)
			if err != nil {
				t.Fatal(err)
			}
			if got := opsOf(t, v); got != "s="+string(want)+" t=last" {
				t.Errorf("got %.200q", got)
			}
			r, err := v.Open("s")
			if err != nil {
				t.Fatal(err)
			}
			if n := len(r.(*contentReader).extents); n != 4 {
				t.Errorf("%d extents, want hole, text, hole, text", n)
			}
			part := make([]byte, 300)
			if n, err := r.(*contentReader).ReadAt(part, 4096+400); n != 300 || err != nil || !bytes.Equal(part, want[4496:4796]) {
				t.Errorf("ReadAt: %d, %v", n, err)
			}
			for n := 512; n < len(data)-2048; n += 512 {
				if _, err := viewOfTar(data[:n]); err == nil {
					t.Errorf("%d bytes of it are enough", n)
				}
			}
		})
	}
}

// What GNU tar makes of a sparse file is mounted as that file.
func TestSparseMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{1 << 20, 5<<20 + 8192, 40 << 20} {
		if _, err := f.WriteAt([]byte(strings.Repeat("text", 2048)), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(50<<20 + 5); err != nil {
		t.Fatal(err)
	}
	f.Close()
	path, err := exec.LookPath("tar")
	need(t, "tar", err == nil)
	for _, args := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		s := openStore(t)
		data, err := exec.Command(path, append(args, "-S", "-C", dir, "-cf", "-", "s")...).Output()
		if err != nil || len(data) > 1<<20 {
			t.Fatalf("tar of %d bytes, %v", len(data), err)
		}
		layer := storeTar(t, s, data)
		root := hostTree{root: mountErofs(t, s, layer)}
		diffLines(t, listTree(t, root), listTree(t, viewOf(t, s, layer)))
		same, err := os.ReadFile(filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root.root, "s"))
		if err != nil || !bytes.Equal(got, same) {
			t.Errorf("%s: %d bytes, %v", args, len(got), err)
		}
	}
}

func TestSparseRefused(t *testing.T) {
	for _, test := range []struct {
		size, data int64
		pieces     []filetree.Extent
		want       string
	}{
		{1000, 512, []filetree.Extent{{Size: 10, At: 3}}, "do not begin at multiples of 512"},
		{2048, 512, []filetree.Extent{{Size: 10, At: 0}}, "do not begin at multiples of 512"},
		{1 << 40, 512, []filetree.Extent{{Size: 512, At: 512}}, "too sparse"},
	} {
		if err := erofs.NewBuilder(nil).AddSparse("s", &Entry{Mode: unix.S_IFREG, Size: test.size}, test.data, test.pieces); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %s", test, err, test.want)
		}
	}
}
