package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compressWith runs a program that compresses stdin to stdout.
func compressWith(t testing.TB, content []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	return out
}

func xzOf(t testing.TB, content []byte, c xz.WriterConfig) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := c.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInflate(t *testing.T) {
	t.Parallel()
	long(t)
	content := []byte(strings.Repeat("all work and no play makes jack a dull boy\n", 1000))
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, _ = g.Write(content)
	_ = g.Close()
	z, _ := zstd.NewWriter(&zs)
	_, _ = z.Write(content)
	_ = z.Close()
	blocks := xzOf(t, content, xz.WriterConfig{BlockSize: 10000, CheckSum: xz.SHA256, DictCap: 1 << 16}) // which each reader clears
	for _, test := range []struct {
		name       string
		in         []byte
		compressed bool
	}{
		{"plain", content, false},
		{"gzip", gz.Bytes(), true},
		{"zstd", zs.Bytes(), true},
		{"xz of several blocks, SHA-256", blocks, true},
		{"xz, CRC-32", xzOf(t, content, xz.WriterConfig{CheckSum: xz.CRC32}), true},
		{"xz, CRC-64", xzOf(t, content, xz.WriterConfig{CheckSum: xz.CRC64}), true},
		{"xz without check", xzOf(t, content, xz.WriterConfig{NoCheckSum: true}), true},
	} {
		r, compressed, err := Inflate(bytes.NewReader(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, content) || compressed != test.compressed {
			t.Errorf("%s: %d bytes, compressed %v, %v; want %d, %v", test.name, len(got), compressed, err, len(content), test.compressed)
		}
	}
	// Two streams and padding between them are one content.
	two := append(append(bytes.Clone(blocks), make([]byte, 8)...), blocks...)
	r, _, err := Inflate(bytes.NewReader(two))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != 2*len(content) {
		t.Errorf("two xz streams: %d bytes, %v", len(got), err)
	}
	// Damage never gives other content, and an early end is never taken for the end.
	for i := range blocks {
		bad := bytes.Clone(blocks)
		bad[i] ^= 1
		if got, err := inflateAll(bad); err == nil && !bytes.Equal(got, content) && i >= 6 {
			t.Fatalf("xz with byte %d of %d changed is accepted", i, len(blocks))
		}
	}
	for n := 6; n < len(blocks); n += 7 {
		if _, err := inflateAll(blocks[:n]); err == nil {
			t.Fatalf("xz cut to %d of %d bytes is accepted", n, len(blocks))
		}
	}
}

func inflateAll(b []byte) ([]byte, error) {
	r, _, err := Inflate(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestInflatePrograms(t *testing.T) {
	t.Parallel()
	long(t)
	content := []byte(strings.Repeat("0123456789abcdef", 100000))
	for _, args := range [][]string{{"bzip2"}, {"xz"}, {"xz", "-T2", "--block-size=65536", "-C", "sha256"}, {"gzip"}, {"zstd"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			got, err := inflateAll(compressWith(t, content, args...))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(content))
			}
		})
	}
}

func TestInflateDictionary(t *testing.T) {
	t.Parallel()
	if _, err := xzDict([]byte{0, 0x21, 1, 37}); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("a dictionary of 1.5 GiB: %v", err)
	}
	if n, err := xzDict([]byte{0, 0x21, 1, 30}); err != nil || n != 128<<20 {
		t.Errorf("a dictionary of 128 MiB: %d, %v", n, err)
	}
	for _, bad := range [][]byte{{0, 0x21, 1, 41}, {1, 0x21, 1, 20}, {0, 0x04, 0}, {0x40}} {
		if _, err := xzDict(bad); err == nil {
			t.Errorf("header %x is accepted", bad)
		}
	}
}

// xzStream is a stream, without its end, of blocks that ask for a dictionary of 128 MiB each and have these LZMA2 data.
func xzStream(blocks ...string) []byte {
	crc := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	s := append([]byte(xzMagic+"\x00\x00"), crc([]byte{0, 0})...)
	for _, data := range blocks {
		header := []byte{2, 0, 0x21, 1, 30, 0, 0, 0}
		s = append(append(append(s, header...), crc(header)...), data...)
		s = append(s, make([]byte, (4-len(data)%4)%4)...)
	}
	return s
}

// TestInflateManyBlocks holds that small blocks cost little, whatever dictionaries they ask for. It measures all memory that is
// reserved and so is not parallel.
func TestInflateManyBlocks(t *testing.T) {
	const n = 1000
	r, _, err := Inflate(bytes.NewReader(xzStream(slices.Repeat([]string{"\x01\x00\x00x\x00"}, n)...)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := io.ReadAll(io.LimitReader(r, n))
	runtime.ReadMemStats(&after)
	if err != nil || string(got) != strings.Repeat("x", n) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, n)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 2*maxXZDict {
		t.Errorf("%d MiB were reserved for %d blocks of one byte", took>>20, n)
	}
}

// TestInflateBlocksApart holds that no block reads what is in the dictionary from another one, and that blocks may ask for
// dictionaries of different sizes.
func TestInflateBlocksApart(t *testing.T) {
	t.Parallel()
	for _, control := range []string{"\x02\x00\x00", "\x80\x00\x00\x00\x05", "\xc0\x00\x00\x00\x05\x5d"} { // none of which empties the dictionary
		got, err := inflateAll(xzStream("\x01\x00\x00x\x00", control+"yyyyyy\x00"))
		if !errors.Is(err, errXZ) || string(got) != "x" {
			t.Errorf("a block that begins with chunk %x: %q, %v; want %v", control, got, err, errXZ)
		}
	}
	var in []byte
	var want string
	for i, dict := range []int{1 << 16, 1 << 20, 1 << 17, 1 << 18, 1 << 20} {
		// What cannot be compressed is in chunks of another kind; the rest repeats what is far behind.
		noise := make([]byte, 100_000)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
		content := strings.Repeat(string(noise), 3) + strings.Repeat("all work and no play", 10_000)
		in = append(in, xzOf(t, []byte(content), xz.WriterConfig{DictCap: dict, BlockSize: 150_000})...)
		want += content
	}
	if got, err := inflateAll(in); err != nil || string(got) != want {
		t.Errorf("streams with different dictionaries: %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func FuzzInflate(f *testing.F) {
	f.Add(xzOf(f, []byte("hello"), xz.WriterConfig{}))
	f.Add([]byte("BZh9"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := Inflate(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); errors.Is(err, io.EOF) {
			t.Error("io.EOF is returned as a failure")
		}
	})
}
