package image

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
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
	blocks := xzOf(t, content, xz.WriterConfig{BlockSize: 10000, CheckSum: xz.SHA256, DictCap: 1 << 16}) // a reader clears as much for each block
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
