package chunk

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
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
			for _, n := range cuts(picture, 16<<10, seed) {
				got = append(got, fmt.Sprintf("%d\t%d\t%x", at, n, sha256.Sum256(picture[at:at+n])))
				at += n
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

// cuts are the lengths of the chunks of a stream.
func cuts(data []byte, average int, seed uint32) (all []int) {
	for c := New(average, seed); len(data) > 0; {
		n := c.Cut(data)
		all = append(all, n)
		data = data[n:]
	}
	return all
}

// TestInsertion holds what chunks are for: a stream with something put in has, but for the chunks around that, the same ones.
func TestInsertion(t *testing.T) {
	data := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	before := sums(data)
	at := 11 << 20
	after := sums(slices.Concat(data[:at], []byte("something new"), data[at:]))
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

func sums(data []byte) map[[32]byte]bool {
	all := map[[32]byte]bool{}
	for _, n := range cuts(data, Average, 0) {
		all[sha256.Sum256(data[:n])] = true
		data = data[n:]
	}
	return all
}

// FuzzCutter holds that chunks are within their bounds, that they are the same if no more is seen than a chunk may be long, and that a chunk
// is the same in front of another end, if that is more than [Ahead] bytes away.
func FuzzCutter(f *testing.F) {
	f.Add([]byte("abc"), uint32(0), uint8(0))
	f.Add(bytes.Repeat([]byte{0}, 9000), uint32(1), uint8(3))
	f.Add(bytes.Repeat([]byte("0123456789"), 3000), uint32(7), uint8(1))
	noise := make([]byte, 200<<10)
	rand.NewChaCha8([32]byte{3}).Read(noise)
	f.Add(noise, uint32(0), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, seed uint32, log uint8) {
		average := 1024 << (log % 4)
		c := New(average, seed)
		for i := 0; len(data) > 0; i++ {
			n := c.Cut(data)
			if n <= 0 || n > 4*average || n > len(data) || n < average/4 && n < len(data) {
				t.Fatalf("chunk %d has %d bytes of %d", i, n, len(data))
			}
			if again := c.Cut(data[:min(len(data), 4*average)]); again != n {
				t.Fatalf("chunk %d has %d bytes, %d if four averages are seen", i, n, again)
			}
			for more := Ahead; more < 2*Ahead+2 && n+more <= len(data); more++ {
				if again := c.Cut(data[:n+more]); again != n {
					t.Fatalf("chunk %d has %d bytes, %d if the stream ends %d bytes behind it", i, n, again, more)
				}
				other := append(slices.Clone(data[:n+Ahead]), bytes.Repeat([]byte{byte(more)}, more*average)...)
				if again := c.Cut(other); again != n {
					t.Fatalf("chunk %d has %d bytes, %d if other bytes follow", i, n, again)
				}
			}
			data = data[n:]
		}
	})
}

func BenchmarkCutter(b *testing.B) {
	data := make([]byte, 128<<20)
	rand.NewChaCha8([32]byte{2}).Read(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		cuts(data, Average, 0)
	}
}
