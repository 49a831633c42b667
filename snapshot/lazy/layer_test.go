package lazy

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/snapshot/layertar"
)

// A blob is an eStargz in memory, and counts what is fetched of it.
type blob struct {
	data    []byte
	toc     digest.Digest
	fetched atomic.Int64
	fails   atomic.Bool
}

func (b *blob) fetch(_ context.Context, from, to int64) (io.ReadCloser, error) {
	if b.fails.Load() {
		return nil, errors.New("the registry is gone")
	}
	b.fetched.Add(to - from)
	return io.NopCloser(bytes.NewReader(b.data[from:to])), nil
}

// large is a file of several chunks.
var large = func() []byte {
	data := make([]byte, 9<<20+77)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}()

// makeBlob writes a layer of 300 small files, an empty one, a large one, a link and a hard link. So many bytes are compressed together at least.
func makeBlob(t *testing.T, together int) *blob {
	t.Helper()
	var in, out bytes.Buffer
	w := tar.NewWriter(&in)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	for i := range 300 {
		add(tar.Header{Name: fmt.Sprintf("d/%d", i), Mode: 0o4711, Uid: 7, Gid: 8}, fmt.Appendf(nil, "file %d", i))
	}
	add(tar.Header{Name: "empty", Mode: 0o600}, nil)
	add(tar.Header{Name: "large", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.selinux": "c"}}, large)
	add(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "large"}, nil)
	add(tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "d/5"}, nil)
	add(tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	e := estargz.NewWriter(&out)
	e.MinChunkSize = together
	if err := e.AppendTar(&in); err != nil {
		t.Fatal(err)
	}
	toc, err := e.Close()
	if err != nil {
		t.Fatal(err)
	}
	return &blob{data: out.Bytes(), toc: toc}
}

func (b *blob) open(t *testing.T) (*Layer, map[string]layertar.Header, error) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	l, err := Open(t.Context(), int64(len(b.data)), b.toc, b.fetch, file, func(error) {})
	if err != nil {
		return nil, nil, err
	}
	files := map[string]layertar.Header{}
	return l, files, l.Headers(func(h *layertar.Header) error {
		files[h.Path] = *h
		return nil
	})
}

func content(t *testing.T, l *Layer, h layertar.Header) []byte {
	t.Helper()
	got := make([]byte, h.Size)
	if _, err := l.ReadAt(got, h.Offset); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return got
}

func TestLayer(t *testing.T) {
	t.Parallel()
	b := makeBlob(t, 0)
	l, files, err := b.open(t)
	if err != nil {
		t.Fatal(err)
	}
	h := files["d/5"]
	if h.Mode != 0o4711 || h.UID != 7 || h.GID != 8 || h.Offset%512 != 0 || files["hard"].Target != "d/5" || files["link"].Target != "large" ||
		files["dev"].Kind != layertar.CharDevice || files["dev"].Rdev != 1<<8|3 {
		t.Errorf("%+v %+v %+v", h, files["hard"], files["dev"])
	}
	if x := files["large"].Xattrs; len(x) != 1 || x["user.a"] != "b" {
		t.Errorf("attributes %q", x)
	}
	before := b.fetched.Load()
	if got := content(t, l, h); string(got) != "file 5" {
		t.Errorf("d/5 holds %q", got)
	}
	if n := b.fetched.Load() - before; n > ahead {
		t.Errorf("%d bytes were fetched for a small file", n)
	}
	before = b.fetched.Load()
	for i := 5; i < 300; i++ {
		if got := content(t, l, files[fmt.Sprint("d/", i)]); string(got) != fmt.Sprint("file ", i) {
			t.Errorf("d/%d holds %q", i, got)
		}
	}
	if n := b.fetched.Load() - before; n > 0 {
		t.Errorf("%d bytes were fetched for what had come with its neighbour", n)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for at := int64(0); at < int64(len(large)); at += 300_000 {
				part := make([]byte, min(300_000, int64(len(large))-at))
				if _, err := l.ReadAt(part, files["large"].Offset+at); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(part, large[at:][:len(part)]) {
					t.Errorf("the large file at %d: %v", at, err)
				}
			}
		})
	}
	all.Wait()
	if n := b.fetched.Load(); n > int64(len(b.data))+firstTail+ahead {
		t.Errorf("%d bytes were fetched of %d", n, len(b.data))
	}
}

// TestLayerLies holds that nothing is believed that has not the digest which the manifest leads to.
func TestLayerLies(t *testing.T) {
	t.Parallel()
	b := makeBlob(t, 0)
	l, files, err := b.open(t)
	if err != nil {
		t.Fatal(err)
	}
	c := l.chunks[len(l.chunks)-1]
	b.data[c.from+c.to>>1-c.from>>1] ^= 1
	got := make([]byte, 100)
	if _, err := l.ReadAt(got, c.at); err == nil {
		t.Error("a chunk that was changed is believed")
	}
	b.data[c.from+c.to>>1-c.from>>1] ^= 1
	if _, err := l.ReadAt(got, c.at); err != nil || !bytes.Equal(got, large[c.at-files["large"].Offset:][:100]) {
		t.Errorf("it is not fetched again: %v", err)
	}
	b.fails.Store(true)
	if _, err := l.ReadAt(got, l.chunks[0].at); err == nil {
		t.Error("there is no error without the registry")
	}
	b.fails.Store(false)
	if got := content(t, l, files["d/0"]); string(got) != "file 0" {
		t.Errorf("after the registry came back: %q", got)
	}
	// Who reads may not take an end that comes too early, of the registry's answers or of a chunk, for the end of a file.
	notAll := []*Layer{}
	for _, fetch := range []Fetch{
		func(context.Context, int64, int64) (io.ReadCloser, error) {
			return nil, fmt.Errorf("the registry: %w", io.EOF)
		},
		func(context.Context, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(nil)), nil
		},
		b.fetch,
	} {
		l, _, err := b.open(t)
		if err != nil {
			t.Fatal(err)
		}
		l.fetch = fetch
		notAll = append(notAll, l)
	}
	notAll[2].chunks[1].skip = maxSkip
	for i, l := range notAll {
		if _, err := l.ReadAt(got, l.chunks[1].at); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%d: what ends too early: %v", i, err)
		}
	}
	b.toc = digest.FromString("another")
	if _, _, err := b.open(t); err == nil {
		t.Error("a table of another digest is believed")
	}
	whole := b.data
	for _, b.data = range [][]byte{nil, whole[:100], whole[:len(whole)-1], make([]byte, 1000)} {
		if _, _, err := b.open(t); err == nil {
			t.Errorf("%d bytes are taken for a layer", len(b.data))
		}
	}
}

// TestRun holds that what is brought for one read is bounded.
func TestRun(t *testing.T) {
	t.Parallel()
	many := func(n int, one func(i int64) chunk) (chunks []chunk) {
		for i := range int64(n) {
			chunks = append(chunks, one(i))
		}
		return chunks
	}
	for name, test := range map[string]struct {
		chunks []chunk
		want   int
	}{
		"small files":  {many(300, func(i int64) chunk { return chunk{size: 100, from: i * 50, to: i*50 + 50} }), 300},
		"many":         {many(5000, func(i int64) chunk { return chunk{size: 1, from: i * 50, to: i*50 + 50} }), runChunks},
		"large":        {many(10, func(i int64) chunk { return chunk{size: 100, from: i << 18, to: (i + 1) << 18} }), 4},
		"much skipped": {many(10, func(i int64) chunk { return chunk{skip: 7 << 20, size: 1, from: i * 50, to: i*50 + 50} }), 2},
		"much":         {many(10, func(i int64) chunk { return chunk{size: 5 << 20, from: i * 50, to: i*50 + 50} }), 3},
		"very much":    {many(10, func(i int64) chunk { return chunk{size: maxPiece, from: i * 50, to: i*50 + 50} }), 1},
		"of one frame": {many(100, func(i int64) chunk { return chunk{skip: 7<<20 + i*200, size: 100, from: 50, to: 3 << 20} }), 100},
		"one content":  {many(100, func(int64) chunk { return chunk{skip: 7 << 20, size: 100, from: 50, to: 3 << 20} }), 1},
		"a gap":        {many(100, func(i int64) chunk { return chunk{size: 100, from: i * 50, to: i*50 + 49} }), 1},
		"backwards":    {many(100, func(i int64) chunk { return chunk{size: 100, from: 5000 - i*50, to: 5050 - i*50} }), 1},
	} {
		l := &Layer{chunks: test.chunks, here: make([]bool, len(test.chunks))}
		if got := l.run(0); got != test.want {
			t.Errorf("%s: %d come, want %d", name, got, test.want)
		}
	}
	l := &Layer{chunks: many(10, func(i int64) chunk { return chunk{size: 100, from: i * 50, to: i*50 + 50} }), here: make([]bool, 10)}
	l.here[5] = true
	if got := l.run(0); got != 5 || l.flights.Find(4) == nil || l.flights.Find(5) != nil {
		t.Errorf("%d come before one that is here, or it is waited for", got)
	}
}

// TestFrames reads files of which many are compressed together.
func TestFrames(t *testing.T) {
	t.Parallel()
	b := makeBlob(t, 2000)
	l, files, err := b.open(t)
	if err != nil {
		t.Fatal(err)
	}
	if c := l.chunks[7]; c.skip == 0 || c.from != l.chunks[5].from {
		t.Fatalf("%+v is compressed alone", c)
	}
	before := b.fetched.Load()
	for i := range 300 {
		i = (i + 150) % 300 // from the middle of a frame on
		if got := content(t, l, files[fmt.Sprint("d/", i)]); string(got) != fmt.Sprint("file ", i) {
			t.Errorf("d/%d holds %q", i, got)
		}
	}
	if got := content(t, l, files["large"]); !bytes.Equal(got, large) {
		t.Error("the large file is another")
	}
	if n := b.fetched.Load() - before; n > int64(len(b.data))*2 {
		t.Errorf("%d bytes were fetched of %d", n, len(b.data))
	}
}

// TestHeaders gives tables that lie about where things are.
func TestHeaders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10000)
	const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	reg := func(change func(e *estargz.TOCEntry)) *estargz.TOCEntry {
		e := &estargz.TOCEntry{Name: "f", Type: "reg", Size: 10 << 10, Offset: 1, ChunkDigest: sum}
		change(e)
		return e
	}
	good := reg(func(*estargz.TOCEntry) {})
	if l, err := parsed(t, 100, good); err != nil || l.size != 10<<10 {
		t.Errorf("a good one: %d, %v", l.size, err)
	}
	chunk := func(offset, size int64) *estargz.TOCEntry {
		return &estargz.TOCEntry{Name: "f", Type: "chunk", Offset: 5, ChunkOffset: offset << 10, ChunkSize: size << 10, ChunkDigest: sum}
	}
	first := reg(func(e *estargz.TOCEntry) { e.ChunkSize = 4 << 10 })
	if _, err := parsed(t, 100, first, chunk(4, 4), chunk(8, 2)); err != nil {
		t.Errorf("three pieces: %v", err)
	}
	for name, entries := range map[string][]*estargz.TOCEntry{
		"negative":             {reg(func(e *estargz.TOCEntry) { e.Size = -1 })},
		"too large":            {reg(func(e *estargz.TOCEntry) { e.Size = 1 << 50 })},
		"behind the table":     {reg(func(e *estargz.TOCEntry) { e.Offset = 100 })},
		"no digest":            {reg(func(e *estargz.TOCEntry) { e.ChunkDigest = "" })},
		"odd digest":           {reg(func(e *estargz.TOCEntry) { e.ChunkDigest = "sha256:" + sum[8:71] + "x" })},
		"too much skipped":     {reg(func(e *estargz.TOCEntry) { e.InnerOffset = 1 << 40 })},
		"negative skip":        {reg(func(e *estargz.TOCEntry) { e.InnerOffset = -1 })},
		"nothing":              {nil},
		"unknown type":         {reg(func(e *estargz.TOCEntry) { e.Type = long; e.Name = long })},
		"bad time":             {reg(func(e *estargz.TOCEntry) { e.ModTime3339 = long })},
		"long digest":          {reg(func(e *estargz.TOCEntry) { e.ChunkDigest = long })},
		"a piece of too much":  {reg(func(e *estargz.TOCEntry) { e.Size = maxPiece + 1 })},
		"device":               {{Name: "d", Type: "char", DevMajor: 1 << 13}},
		"a chunk alone":        {chunk(0, 10)},
		"small pieces":         {reg(func(e *estargz.TOCEntry) { e.ChunkSize = 1 << 10 }), chunk(1, 9)},
		"a gap":                {first, chunk(6, 4)},
		"an overlap":           {first, chunk(2, 8)},
		"too short":            {first, chunk(4, 5)},
		"too long":             {first, chunk(4, 20)},
		"of an empty file":     {reg(func(e *estargz.TOCEntry) { e.Size = 0 }), chunk(0, 1)},
		"of a directory":       {{Name: "d", Type: "dir"}, chunk(0, 1)},
		"beyond what can be":   {reg(func(e *estargz.TOCEntry) { e.ChunkOffset = 1 << 62; e.ChunkSize = 1 << 62 })},
		"negative chunk":       {first, chunk(-4, 8)},
		"negative chunk size":  {reg(func(e *estargz.TOCEntry) { e.ChunkSize = -4 })},
		"a chunk of too large": {reg(func(e *estargz.TOCEntry) { e.Size = 1 << 30 }), chunk(0, 1<<31)},
	} {
		if _, err := parsed(t, 100, entries...); err == nil {
			t.Errorf("%s: is believed", name)
		} else if len(err.Error()) > 2000 {
			t.Errorf("%s: %d bytes of error", name, len(err.Error()))
		}
	}
	l, err := parsed(t, 100, good, good, good)
	if err != nil || l.headers[2].Offset != 20<<10 {
		t.Errorf("three files of one content: %v", err)
	}
	if _, err := parsed(t, 1<<40, good); err == nil {
		t.Error("a piece that fills the memory is taken")
	}
}

// parsed is what is made of a table.
func parsed(t *testing.T, end int64, entries ...*estargz.TOCEntry) (*Layer, error) {
	t.Helper()
	raw, err := json.Marshal(&estargz.JTOC{Version: 1, Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	l := new(Layer)
	return l, l.parse(raw, end)
}

// TestHugeTables holds that a table is refused before it takes much memory.
func TestHugeTables(t *testing.T) {
	const dir = `{"name":"a","type":"dir"},`
	many := func(n int, before, one, after string) []byte {
		return []byte(`{"version":1,"entries":[` + before + strings.Repeat(one, n) + after + `]}`)
	}
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"many":            {many(maxThings-1, "", dir, `{"name":"a","type":"dir"}`), ""},
		"too many":        {many(maxThings, "", dir, `{"name":"a","type":"dir"}`), "more than 262144 files"},
		"nothing":         {many(8<<20/3, "", "{},", "{}"), "unknown type"},
		"many attributes": {many(maxThings/4, "", `{"name":"a","type":"dir","xattrs":{"a":"","b":"","c":"","d":""}},`, dir[:len(dir)-1]), "more than 262144 files"},
		"one entry":       {many(8<<20/6, dir+`{"name":"a","type":"dir","xattrs":{`, `"a":"",`, `"a":""}}`), "are one entry"},
		"long name":       {many(2<<20, dir+`{"name":"`, "a", `","type":"dir"}`), "are one entry"},
		"something else":  {[]byte(`{"version":[` + strings.Repeat("{},", 1<<20) + `{}],"entries":[]}`), "are one entry"},
		"cut off":         {many(1000, "", dir, "")[:20000], "unexpected EOF"},
		"no table":        {[]byte(`[]`), "is not {"},
		"no entries":      {[]byte(`{"version":1,"entries":7}`), "is not ["},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := new(Layer).parse(test.raw, 100)
		runtime.ReadMemStats(&after)
		if text := fmt.Sprint(err); !strings.Contains(text, test.want) || (err == nil) != (test.want == "") || len(text) > 2000 {
			t.Errorf("%s: %.2000s, want %s", name, text, test.want)
		}
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 500 {
			t.Errorf("%s: %d MiB of memory", name, n)
		}
	}
}

// TestNames holds that a table is refused whose names may be others in the tar.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ entry, want string }{
		{`"name":"é","type":"dir"`, ""},
		{`"name":"l","type":"symlink","linkName":"é"`, ""},
		{"\"name\":\"caf\xe9\",\"type\":\"dir\"", `"caf�"`},
		{`"name":"caf\ufffd","type":"dir"`, `"caf�"`},
		{`"name":"caf\ud800","type":"dir"`, `"caf�"`},
		{"\"name\":\"link\",\"type\":\"symlink\",\"linkName\":\"\xe9\"", `"link"`},
		{`"name":"link","type":"hardlink","linkName":"\ufffd"`, `"link"`},
		{`"name":"d","type":"dir","xattrs":{"user.\ufffd":""}`, `"d"`},
	} {
		err := new(Layer).parse([]byte(`{"version":1,"entries":[{`+test.entry+`}]}`), 100)
		if text := fmt.Sprint(err); (err == nil) != (test.want == "") || err != nil && (!strings.Contains(text, test.want) || !strings.Contains(text, "UTF-8")) {
			t.Errorf("%s: %v, want %s", test.entry, err, test.want)
		}
	}
}

// FuzzHeaders holds that whatever a table says, all of its pieces lie where they can be read.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[{"name":"d/","type":"dir","mode":493},{"name":"d/f","type":"reg","size":10000,"offset":1,"chunkSize":5000,"chunkDigest":"sha256:`+
		`0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},{"name":"d/f","type":"chunk","offset":9,"chunkOffset":5000,"chunkDigest":"sha256:`+
		`0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}]}`), int64(100))
	f.Fuzz(func(t *testing.T, raw []byte, end int64) {
		l := new(Layer)
		if l.parse(raw, end) != nil {
			return
		}
		files := int64(0)
		for i := range l.headers {
			h := &l.headers[i]
			files += h.Size
			if h.Size < 0 || h.Offset%512 != 0 || h.Offset+h.Size > l.size {
				t.Fatalf("%+v in %d bytes", h, l.size)
			}
		}
		for _, c := range l.chunks {
			files -= c.size
			if c.at < 0 || c.size <= 0 || c.size > maxPiece || c.at+c.size > l.size || c.from < 0 || c.to <= c.from || c.to > end || c.to-c.from > maxFrame {
				t.Fatalf("%+v in %d bytes, of a blob of %d", c, l.size, end)
			}
		}
		if files != 0 {
			t.Fatalf("%d bytes of files are in no piece", files)
		}
	})
}
