package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// prose is n bytes that compress somewhat, always the same.
func prose(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 5000)
	for i := range words {
		words[i] = fmt.Sprintf("%x", rnd.Uint64()>>(rnd.Uint64()%48))
	}
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[rnd.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

func TestCompressIsDeterministic(t *testing.T) {
	long(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	content := prose(5<<20 + 12345)
	for _, c := range []Compression{{Algorithm: Gzip, Level: 1}, {Algorithm: Gzip, Level: 6}, {Algorithm: Gzip, Level: 9}, {Algorithm: Zstd, Level: 1}, {Algorithm: Zstd, Level: 3}} {
		var want []byte
		for _, cores := range []int{1, 5} {
			runtime.GOMAXPROCS(cores)
			var out bytes.Buffer
			// Odd reads: neither they nor the order in which blocks are done may show.
			if err := c.compress(t.Context(), &out, io.MultiReader(bytes.NewReader(content[:777]), bytes.NewReader(content[777:]))); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = out.Bytes()
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("%s -%d on %d cores gives other bytes than on one", c.Algorithm, c.Level, cores)
			}
		}
		if len(want) > len(content)*7/10 {
			t.Errorf("%s -%d: %d bytes became %d", c.Algorithm, c.Level, len(content), len(want))
		}
	}
}

// TestCompressFormat fails when a new version of a compressor gives other bytes: then Compression.format has to change.
func TestCompressFormat(t *testing.T) {
	t.Parallel()
	content := prose(5<<20 + 1)
	for _, test := range []struct {
		c    Compression
		want string
	}{
		{Compression{Algorithm: Gzip, Level: 1}, "ab804848aa09bba5"},
		{Compression{Algorithm: Gzip, Level: 7}, "9ef3ccd38ce4af2f"},
		{Compression{Algorithm: Zstd, Level: 1}, "49d861699097e0ed"},
	} {
		var out bytes.Buffer
		if err := test.c.compress(t.Context(), &out, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if got := digest.FromBytes(out.Bytes()).Encoded()[:16]; got != test.want {
			t.Errorf("%s -%d gives %s, want %s", test.c.Algorithm, test.c.Level, got, test.want)
		}
	}
}

// TestCompressEnds fails where a compression that failed leaves a goroutine behind.
func TestCompressEnds(t *testing.T) {
	t.Parallel()
	content := prose(3 << 20)
	broken := errors.New("broken")
	for _, a := range []Algorithm{Gzip, Zstd} {
		for name, test := range map[string]struct {
			w io.Writer
			r io.Reader
		}{
			"reader":       {io.Discard, io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken))},
			"first write":  {writerFunc(func([]byte) (int, error) { return 0, broken }), bytes.NewReader(content)},
			"second write": {failAfter(1, broken), bytes.NewReader(content)},
			"last write":   {failAfter(2, broken), bytes.NewReader(content[:1000])},
		} {
			synctest.Test(t, func(t *testing.T) {
				err := (Compression{Algorithm: a, Level: 1}).compress(t.Context(), test.w, test.r)
				if !errors.Is(err, broken) && (a != Zstd || err != nil) { // of zstd, a short input is one write
					t.Errorf("%s, %s: %v", a, name, err)
				}
			})
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// failAfter is a writer whose first n writes go well.
func failAfter(n int, err error) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if n--; n < 0 {
			return 0, err
		}
		return len(p), nil
	})
}

func TestCompressRoundTrip(t *testing.T) {
	t.Parallel()
	long(t)
	for _, size := range []int{0, 1, 32 << 10, gzipBlock - 1, gzipBlock, gzipBlock + 1, 2*zstdBlock + 5} {
		content := prose(size)
		for _, a := range []Algorithm{Uncompressed, Gzip, Zstd} {
			var out bytes.Buffer
			if err := (Compression{Algorithm: a}).normal().compress(t.Context(), &out, bytes.NewReader(content)); err != nil {
				t.Fatal(err)
			}
			blob := bytes.Clone(out.Bytes())
			r, err := decompress(bufio.NewReader(&out))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s of %d bytes came back as %d, %v", a, size, len(got), err)
			}
			if a != Gzip {
				continue
			}
			std, err := gzip.NewReader(bytes.NewReader(blob)) // the library that most others use
			if err != nil {
				t.Fatal(err)
			}
			std.Multistream(false)
			if got, err := io.ReadAll(std); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes: compress/gzip reads %d, %v", size, len(got), err)
			}
		}
	}
}

func TestCompressTo(t *testing.T) {
	t.Parallel()
	long(t)
	content := tarOf("file", string(prose(2<<20)))
	for _, c := range []Compression{{}, {Algorithm: Zstd}, {Algorithm: Uncompressed}, {Algorithm: Gzip, Level: 9, Keep: true}} {
		l := openLayout(t, t.TempDir())
		d := push(t, l, ocispec.MediaTypeImageLayer, content)
		layer := Layer{d, d.Digest}
		if _, ok := l.Compressed(layer, c); ok != (c.Algorithm == Uncompressed) {
			t.Errorf("%v: Compressed before = %v", c, ok)
		}
		var out bytes.Buffer
		var meter Meter
		d, err := l.CompressTo(t.Context(), &out, &meter, layer, c)
		if err != nil {
			t.Fatal(err)
		}
		if meter.Bytes != int64(out.Len()) || meter.read.Load() != int64(len(content)) || meter.Length != int64(len(content)) {
			t.Errorf("%v: counted %d written, %d of %d read", c, meter.Bytes, meter.read.Load(), meter.Length)
		}
		if want := describe(c.normal().mediaType(), out.Bytes()); d.Digest != want.Digest || d.Size != want.Size || d.MediaType != want.MediaType {
			t.Errorf("%v: described as %v, want %v", c, d, want)
		}
		if got, ok := l.Compressed(layer, c); !ok || got.Digest != d.Digest {
			t.Errorf("%v: Compressed after = %v, %v", c, got, ok)
		}
		if other := (Compression{Algorithm: Gzip, Level: 5}); c.Level != 5 {
			if _, ok := l.Compressed(layer, other); ok {
				t.Errorf("%v counts as %v", c, other)
			}
		}
		if ok, _ := l.Exists(t.Context(), d); ok != (c.Keep || c.Algorithm == Uncompressed) {
			t.Errorf("%v: blob is stored: %v", c, ok)
		}
		again, err := l.compress(t.Context(), layer, c)
		if err != nil || again.Digest != d.Digest {
			t.Errorf("%v: Compress = %v, %v, want %v", c, again, err, d)
		}
		if ok, _ := l.Exists(t.Context(), d); !ok {
			t.Errorf("%v: Compress did not store", c)
		}
		// The compressed form is a layer like any other.
		l2 := openLayout(t, t.TempDir())
		if err := l2.PushLayer(t.Context(), Layer{d, layer.DiffID}, Incoming{Reader: &out}, nil); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/[0-9]*")); len(left) != 0 {
			t.Errorf("%v: left %v", c, left)
		}
	}
}

func TestCompressedRecordTorn(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	d := push(t, l, ocispec.MediaTypeImageLayer, tarOf("a", "b"))
	layer, c := Layer{d, d.Digest}, Compression{}.normal()
	want, err := l.compress(t.Context(), layer, c)
	if err != nil {
		t.Fatal(err)
	}
	path := l.compressedPath(layer.DiffID, c)
	whole := read(t, path)
	for _, content := range []string{"", whole[:len(whole)/2], "{}", strings.Replace(whole, fmt.Sprintf(`"format":%d`, c.format()), `"format":0`, 1), strings.Replace(whole, "sha256:", "sha256:..", 2)} {
		os.WriteFile(path, []byte(content), 0o600)
		if d, ok := l.Compressed(layer, c); ok {
			t.Errorf("record %q is believed: %v", content, d)
		}
	}
	if got, err := l.compress(t.Context(), layer, c); err != nil || got.Digest != want.Digest {
		t.Errorf("Compress = %v, %v", got, err)
	}
	if read(t, path) != whole {
		t.Error("the record is not written anew")
	}
}

// TestCompressedBefore holds that a layer which was compressed at another level, when that was the default, keeps its form unless another
// is asked for: registries have it.
func TestCompressedBefore(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	d := push(t, l, ocispec.MediaTypeImageLayer, tarOf("file", string(prose(100<<10))))
	layer := Layer{d, d.Digest}
	form := func(c Compression) digest.Digest {
		t.Helper()
		d, err := l.CompressTo(t.Context(), io.Discard, nil, layer, c)
		if err != nil {
			t.Fatal(err)
		}
		return d.Digest
	}
	old := form(Compression{Level: 1})
	if got, ok := l.Compressed(layer, Compression{}); !ok || got.Digest != old {
		t.Errorf("without a level: %v, %v, want what was made before, %s", got, ok, old)
	}
	if got := form(Compression{}); got != old {
		t.Errorf("made again without a level: %s, want %s", got, old)
	}
	best := form(Compression{Level: 7})
	if best == old {
		t.Fatal("level 7 gives what level 1 gives")
	}
	if got := form(Compression{}); got != best {
		t.Errorf("the default's own form is there: %s, want %s", got, best)
	}
	path := l.compressedPath(layer.DiffID, Compression{Algorithm: Gzip, Level: 7})
	r, err := readCompressed(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Format = 2 // as levels that are compressed in another way now were remembered
	r.Sum = r.sum()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path, text, 0o600)
	if d, ok := l.Compressed(layer, Compression{Level: 7}); ok {
		t.Errorf("a record of other bytes is believed: %v", d)
	}
	if problems, err := l.Fsck(t.Context(), FsckOptions{}); err != nil || len(problems) != 0 {
		t.Errorf("a record of another version counts as damage: %v, %v", problems, err)
	}
}

// TestCompressNoise holds that the default takes no longer for what does not get smaller than the fastest level does: it gives the same bytes.
func TestCompressNoise(t *testing.T) {
	t.Parallel()
	noise := make([]byte, gzipBlock)
	rand.NewChaCha8([32]byte{}).Read(noise)
	content := append(bytes.Clone(noise), prose(gzipBlock)...)
	blocks := func(level int) [][]byte {
		var sizes [][]byte
		w := writerFunc(func(p []byte) (int, error) { sizes = append(sizes, bytes.Clone(p)); return len(p), nil })
		if err := (Compression{Algorithm: Gzip, Level: level}).compress(t.Context(), w, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		return sizes
	}
	fast, usual := blocks(1), blocks(Compression{}.normal().Level)
	if !bytes.Equal(fast[1], usual[1]) {
		t.Errorf("noise: %d bytes, want the %d of level 1", len(usual[1]), len(fast[1]))
	}
	if bytes.Equal(fast[2], usual[2]) {
		t.Error("prose is left to the fastest level, too")
	}
}

func TestCompressToFails(t *testing.T) {
	t.Parallel()
	long(t)
	content := tarOf("file", string(prose(3<<20)))
	l := openLayout(t, t.TempDir())
	d := push(t, l, ocispec.MediaTypeImageLayer, content)
	layer := Layer{d, d.Digest}
	dead := errors.New("line is dead")
	if _, err := l.CompressTo(t.Context(), failing{dead}, nil, layer, Compression{Keep: true}); !errors.Is(err, dead) {
		t.Errorf("dead line: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(dead)
	for _, a := range []Algorithm{Gzip, Zstd, Uncompressed} {
		if _, err := l.CompressTo(ctx, io.Discard, nil, layer, Compression{Algorithm: a}); !errors.Is(err, dead) {
			t.Errorf("%s, cancelled: %v", a, err)
		}
	}
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(l.BlobPath(d.Digest), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte{'!'}, 1<<20)
	f.Close()
	for _, a := range []Algorithm{Gzip, Zstd, Uncompressed} {
		_, err := l.CompressTo(t.Context(), io.Discard, nil, layer, Compression{Algorithm: a, Keep: true})
		if err == nil || !strings.Contains(err.Error(), "content has digest") {
			t.Errorf("%s of a damaged tar: %v", a, err)
		}
		if d, ok := l.Compressed(layer, Compression{Algorithm: a}); ok && a != Uncompressed {
			t.Errorf("%s of a damaged tar is remembered: %v", a, d)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestParseCompression(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		algorithm string
		level     int
		want      string
	}{
		{"", 0, ""},
		{"gzip", 9, ""},
		{"zstd", 22, ""},
		{"none", 0, ""},
		{"gzip", 10, "compression level 10: gzip has 1 to 9, and 0 for the default"},
		{"", -1, "compression level -1: gzip has 1 to 9, and 0 for the default"},
		{"zstd", 23, "compression level 23: zstd has 1 to 22, and 0 for the default"},
		{"estargz", 12, "compression level 12: estargz has 1 to 9, and 0 for the default"},
		{"lz4", 0, `compression "lz4" is not known: there are gzip, zstd, estargz and none`},
	} {
		if _, err := ParseCompression(test.algorithm, test.level); errText(err) != test.want {
			t.Errorf("ParseCompression(%q, %d): %v, want %q", test.algorithm, test.level, err, test.want)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	content := prose(256 << 20)
	for _, c := range []Compression{{Algorithm: Gzip, Level: 1}, {Algorithm: Gzip, Level: 3}, {Algorithm: Gzip, Level: 6}, {Algorithm: Zstd, Level: 1}, {Algorithm: Zstd, Level: 3}} {
		b.Run(fmt.Sprint(c.Algorithm, c.Level), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				n := &output{ctx: b.Context(), w: io.Discard}
				if err := c.compress(b.Context(), n, bytes.NewReader(content)); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(n.n)/float64(len(content)), "ratio")
			}
		})
	}
}
