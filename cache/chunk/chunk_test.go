package chunk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// TestVectors holds the vectors of bazelbuild/remote-apis: what is cut here is what others cut. The picture is Toriyama Sekien's
// (1779), from the tests of fastcdc-rs.
func TestVectors(t *testing.T) {
	picture, err := os.ReadFile("testdata/SekienAkashita.jpg")
	if err != nil {
		t.Fatal(err)
	}
	vectors, err := os.ReadFile("testdata/fastcdc2020_test_vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for line := range strings.Lines(string(vectors)) {
		line = strings.TrimSpace(line)
		var seed uint32
		if _, err := fmt.Sscanf(line, "# Seed: %d", &seed); err == nil {
			want = append(want, line)
			got = append(got, line)
			at := 0
			for c := New(iotest.OneByteReader(bytes.NewReader(picture)), 16<<10, seed); ; {
				chunk, err := c.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%d\t%d\t%x", at, len(chunk), sha256.Sum256(chunk)))
				at += len(chunk)
			}
		}
		if fields := strings.Split(line, "\t"); len(fields) == 4 {
			want = append(want, strings.Join(fields[:3], "\t"))
		}
	}
	if len(want) != 14 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("cut\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestInsertion holds what chunks are for: a stream with something put in has, but for the chunks around that, the same ones.
func TestInsertion(t *testing.T) {
	data := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	before := sums(t, bytes.NewReader(data), Average)
	at := 11 << 20
	after := sums(t, io.MultiReader(bytes.NewReader(data[:at]), strings.NewReader("something new"), bytes.NewReader(data[at:])), Average)
	fresh := 0
	for sum := range after {
		if !before[sum] {
			fresh++
		}
	}
	if fresh == 0 || fresh > 3 {
		t.Errorf("%d of %d chunks are new, want one to three", fresh, len(after))
	}
}

func sums(t *testing.T, r io.Reader, average int) map[[32]byte]bool {
	t.Helper()
	all := map[[32]byte]bool{}
	for c := New(r, average, 0); ; {
		chunk, err := c.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[sha256.Sum256(chunk)] = true
	}
}

// TestError holds that a stream that breaks off gives its error and not its last chunk.
func TestError(t *testing.T) {
	broken := errors.New("broken")
	c := New(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), 1024, 0)
	if chunk, err := c.Next(); !errors.Is(err, broken) || chunk != nil {
		t.Errorf("%q, %v; want the error", chunk, err)
	}
}

// FuzzChunker holds that chunks are the stream, within their bounds, however it comes.
func FuzzChunker(f *testing.F) {
	f.Add([]byte("abc"), uint32(0), uint8(0))
	f.Add(bytes.Repeat([]byte{0}, 9000), uint32(1), uint8(3))
	f.Add(bytes.Repeat([]byte("0123456789"), 3000), uint32(7), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, seed uint32, log uint8) {
		average := 1024 << (log % 4)
		var whole []byte
		var cuts []int
		for c := New(iotest.HalfReader(bytes.NewReader(data)), average, seed); ; {
			chunk, err := c.Next()
			if err == io.EOF {
				break
			}
			if err != nil || len(chunk) == 0 || len(chunk) > 4*average {
				t.Fatalf("chunk of %d bytes, %v", len(chunk), err)
			}
			whole = append(whole, chunk...)
			cuts = append(cuts, len(chunk))
		}
		if !bytes.Equal(whole, data) {
			t.Fatalf("%d bytes became %d", len(data), len(whole))
		}
		for i, n := range cuts[:max(len(cuts)-1, 0)] {
			if n < average/4 {
				t.Fatalf("chunk %d of %d has %d bytes, fewer than %d", i, len(cuts), n, average/4)
			}
		}
		var again []int
		for c := New(bytes.NewReader(data), average, seed); ; {
			chunk, err := c.Next()
			if err == io.EOF {
				break
			}
			again = append(again, len(chunk))
		}
		if fmt.Sprint(again) != fmt.Sprint(cuts) {
			t.Fatalf("cut at %v, and at %v when read at once", cuts, again)
		}
	})
}

func BenchmarkChunker(b *testing.B) {
	data := make([]byte, 128<<20)
	rand.NewChaCha8([32]byte{2}).Read(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c := New(bytes.NewReader(data), Average, 0)
		for {
			if _, err := c.Next(); err == io.EOF {
				break
			}
		}
	}
}
