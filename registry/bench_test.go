package registry_test

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// bigLayer stages a tar of size bytes that compress to about two fifths, as binaries do.
func bigLayer(b *testing.B, l *image.Layout, seed uint64, size int64) image.Layer {
	b.Helper()
	f, err := l.Staging().Create()
	if err != nil {
		b.Fatal(err)
	}
	h := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	w := tar.NewWriter(buf)
	if err := w.WriteHeader(&tar.Header{Name: "big", Size: size, Mode: 0o644}); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	block := make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(block)) {
		for i := 0; i < len(block); i += 16 {
			if x := rng.Uint64(); x%5 < 2 {
				for k := range 8 {
					block[i+k], block[i+8+k] = byte(x>>(8*k)), byte(x>>(56-8*k))
				}
			} else {
				copy(block[i:i+16], "abcdefghijklmnopqrstuvwxyz"[x%10:])
			}
		}
		if _, err := w.Write(block[:min(int64(len(block)), size-n)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := buf.Flush(); err != nil {
		b.Fatal(err)
	}
	d := digest.NewDigestFromBytes(digest.SHA256, h.Sum(nil))
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Commit(l.BlobPath(d)); err != nil {
		b.Fatal(err)
	}
	return image.Layer{Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: st.Size()}, DiffID: d}
}

// benchImage is an image of 1 GiB in so many layers; FORGE_BENCH_MIB makes it another size.
func benchImage(b *testing.B, parts int) (*image.Layout, *image.Image) {
	b.Helper()
	total := int64(1024)
	if s := os.Getenv("FORGE_BENCH_MIB"); s != "" {
		if _, err := fmt.Sscan(s, &total); err != nil {
			b.Fatal(err)
		}
	}
	l := openLayout(b, filepath.Join(b.TempDir(), "store"))
	var layers []image.Layer
	for i := range parts {
		layers = append(layers, bigLayer(b, l, uint64(i), total<<20/int64(parts)))
	}
	img, err := l.Write(b.Context(), image.Config{Image: ocispec.Image{Platform: amd64}}, layers, nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Publish(b.Context()); err != nil {
		b.Fatal(err)
	}
	return l, img
}

func peers(b *testing.B) map[string]string {
	return map[string]string{"docker-registry": registrytest.DockerRegistry(b, ""), "ours": registrytest.New(b).Host()}
}

// usage reports what this process, without the registry if that is another, has needed since start: on a busy machine the
// processor's time says more than the clock's.
func usage(b *testing.B, start time.Duration) {
	b.ReportMetric((cpu(b)-start).Seconds()/float64(b.N), "cpu-s/op")
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(u.Maxrss)/1024, "MB-RSS")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPush(b *testing.B) {
	for _, parts := range []int{1, 4} {
		l, img := benchImage(b, parts)
		for name, host := range peers(b) {
			for _, algorithm := range []string{"none", "gzip", "zstd"} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, parts, algorithm), func(b *testing.B) {
					start := cpu(b)
					for i := range b.N {
						ref := registrytest.Ref(b, fmt.Sprintf("%s/%s%d:1", host, algorithm, i))
						pushBench(b, l, img, ref, algorithm)
					}
					usage(b, start)
				})
			}
		}
	}
}

func pushBench(b *testing.B, l *image.Layout, img *image.Image, ref image.Reference, algorithm string) {
	b.Helper()
	repo, err := registry.NewClient(registry.Options{}).Connect(ref)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := registry.Copy(b.Context(), repo.Writable().Whole(), l, img.Descriptor, pushOptions(l, ref, compression(b, algorithm))); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkPull(b *testing.B) {
	for _, parts := range []int{1, 4} {
		l, img := benchImage(b, parts)
		for name, host := range peers(b) {
			for _, algorithm := range []string{"none", "gzip", "zstd"} {
				ref := registrytest.Ref(b, host+"/"+algorithm+":1")
				pushBench(b, l, img, ref, algorithm)
				b.Run(fmt.Sprintf("%s/%d/%s", name, parts, algorithm), func(b *testing.B) {
					start := cpu(b)
					for range b.N {
						root := filepath.Join(b.TempDir(), "store")
						if err := pullTo(b.Context(), b, root, ref, false); err != nil {
							b.Fatal(err)
						}
						b.StopTimer()
						if err := os.RemoveAll(root); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					usage(b, start)
				})
			}
		}
	}
}
