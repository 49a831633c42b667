package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func openLayout(t testing.TB, root string) *Layout {
	t.Helper()
	st, err := OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenLayout(root, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return l
}

func mustParse(t testing.TB, s string) Reference {
	t.Helper()
	r, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tarOf is a tar of files, given as name, content, name, content…
func tarOf(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg})
		w.Write([]byte(files[i+1]))
	}
	w.Close()
	return b.Bytes()
}

func push(t testing.TB, l *Layout, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	d := Describe(mediaType, data)
	if err := l.Push(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return d
}

// writeImage stages an image of one uncompressed layer that holds content.
func writeImage(t testing.TB, l *Layout, content string) *Image {
	t.Helper()
	d := push(t, l, ocispec.MediaTypeImageLayer, tarOf("file", content))
	img, err := l.Write(t.Context(), Config{Image: ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}},
		[]Layer{{d, d.Digest}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestLayoutImage(t *testing.T) {
	root := t.TempDir()
	l := openLayout(t, root)
	img := writeImage(t, l, "one")
	ref := mustParse(t, "app")
	if got, err := l.Image(t.Context(), img.Descriptor, nil); err != nil || got.ID() != img.ID() {
		t.Errorf("staged image: %v, %v", got, err)
	}
	if err := l.Tag(t.Context(), ref, img.Descriptor); err != nil {
		t.Fatal(err)
	}
	l.Staging().Close()

	l = openLayout(t, root)
	d, err := l.Resolve(t.Context(), ref)
	if err != nil || d.Digest != img.Descriptor.Digest {
		t.Fatalf("Resolve = %v, %v", d, err)
	}
	got, err := l.Image(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.RawConfig, img.RawConfig) || got.Manifest.Layers[0].MediaType != ocispec.MediaTypeImageLayer {
		t.Errorf("image came back as %+v", got)
	}
	f, err := l.OpenTar(t.Context(), got.Layers()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, _ := io.ReadAll(f); !bytes.Equal(b, tarOf("file", "one")) {
		t.Errorf("layer came back as %d bytes", len(b))
	}

	var x ocispec.Index
	if err := json.Unmarshal([]byte(read(t, filepath.Join(root, "images/index.json"))), &x); err != nil {
		t.Fatal(err)
	}
	if len(x.Manifests) != 1 || x.Manifests[0].Annotations[ocispec.AnnotationRefName] != "docker.io/library/app:latest" {
		t.Errorf("index.json names %+v", x.Manifests)
	}
}

func TestLayoutVersion(t *testing.T) {
	root := t.TempDir()
	openLayout(t, root)
	header := filepath.Join(root, "images/oci-layout")
	if got := read(t, header); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout holds %s", got)
	}
	os.WriteFile(header, nil, 0o600) // torn
	openLayout(t, root)
	os.WriteFile(header, []byte(`{"imageLayoutVersion":"2.0.0"}`), 0o600)
	if _, err := OpenLayout(root, openStaging(t, root)); err == nil || !strings.Contains(err.Error(), "2.0.0") {
		t.Errorf("unknown version: %v", err)
	}
}

func TestPushRefuses(t *testing.T) {
	l := openLayout(t, t.TempDir())
	good := []byte("content")
	for _, test := range []struct {
		name string
		d    ocispec.Descriptor
		r    io.Reader
		want string
	}{
		{"digest", Describe("", []byte("CONTENT")), bytes.NewReader(good), "content has digest " + digest.FromBytes(good).String()},
		{"short", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: 8}, bytes.NewReader(good), "ends after 7 of 8 bytes"},
		{"long", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: 6}, bytes.NewReader(good), "is longer than its descriptor says"},
		{"endless", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: 7}, endless{}, "is longer than its descriptor says"},
		{"negative", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: -1}, bytes.NewReader(good), "size -1 is out of range"},
		{"path", ocispec.Descriptor{Digest: "sha256:../../../../etc/passwd", Size: 7}, bytes.NewReader(good), "64 lower case hexadecimal digits"},
		{"algorithm", ocispec.Descriptor{Digest: digest.Digest("sha512:" + hexA + hexA), Size: 7}, bytes.NewReader(good), "only sha256 is supported"},
		{"error", Describe("", good), io.MultiReader(strings.NewReader("con"), broken{}), "line is dead"},
	} {
		err := l.Push(t.Context(), test.d, test.r)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Push = %v, want %q", test.name, err, test.want)
		}
		if ok, _ := l.Exists(t.Context(), test.d); ok {
			t.Errorf("%s: blob is there", test.name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/*")); len(left) != 0 {
		t.Errorf("refused blobs left %v", left)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("line is dead") }

func TestFetchVerifies(t *testing.T) {
	l := openLayout(t, t.TempDir())
	d := push(t, l, "", []byte("content"))
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"content": "", "c0ntent": "content has digest", "conten": "ends after 6 of 7", "content ": "is longer"} {
		os.WriteFile(l.BlobPath(d.Digest), []byte(content), 0o600)
		r, err := l.Fetch(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(r); !strings.Contains(errText(err), want) || (err == nil) != (want == "") {
			t.Errorf("Fetch of %q: %v, want %q", content, err, want)
		}
		r.Close()
	}
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func zstded(data []byte, o ...zstd.EOption) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, o...)
	if err != nil {
		panic(err)
	}
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func TestOpenTar(t *testing.T) {
	content := tarOf("file", strings.Repeat("some content ", 100_000))
	gz := gzipped(content)
	for _, test := range []struct {
		name, want string
		blob       []byte
	}{
		{"tar", "", content},
		{"gzip", "", gz},
		{"gzip members", "", append(gzipped(content[:5000]), gzipped(content[5000:])...)},
		{"zstd", "", zstded(content)},
		{"zstd after a skippable frame", "", append([]byte{0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2}, zstded(content)...)},
		{"other content", "not the diffID", gzipped(tarOf("x", "y"))},
		{"cut gzip", "unexpected EOF", gz[:len(gz)/2]},
		{"rubbish behind", "gzip: invalid header", append(gzipped(content), "more than ten bytes of rubbish"...)},
		{"window", "window size exceeded", zstded(content, zstd.WithWindowSize(256<<20), zstd.WithSingleSegment(false))},
	} {
		t.Run(test.name, func(t *testing.T) {
			layer := Layer{Describe("", test.blob), digest.FromBytes(content)}
			for _, way := range []string{"OpenTar", "PushLayer"} {
				l := openLayout(t, t.TempDir())
				var tap bytes.Buffer
				var err error
				if way == "OpenTar" {
					push(t, l, "", test.blob)
				} else {
					err = l.PushLayer(t.Context(), layer, bytes.NewReader(test.blob), &tap)
				}
				var f *os.File
				if err == nil {
					f, err = l.OpenTar(t.Context(), layer)
				}
				if !strings.Contains(errText(err), test.want) || (err == nil) != (test.want == "") {
					t.Fatalf("%s: %v, want %q", way, err, test.want)
				}
				if err != nil {
					if ok, _ := l.Exists(t.Context(), ocispec.Descriptor{Digest: layer.DiffID}); ok {
						t.Errorf("%s: a wrong tar is there", way)
					}
					continue
				}
				if b, _ := io.ReadAll(f); !bytes.Equal(b, content) {
					t.Errorf("%s: tar came back as %d bytes", way, len(b))
				}
				f.Close()
				if way == "PushLayer" && !bytes.Equal(tap.Bytes(), content) {
					t.Errorf("tap got %d bytes, want %d", tap.Len(), len(content))
				}
				if ok, err := l.Exists(t.Context(), layer.Blob); !ok || err != nil {
					t.Errorf("%s: blob is not there: %v", way, err)
				}
			}
		})
	}
}

func TestPushLayerRefusesWrongBlob(t *testing.T) {
	content := tarOf("file", "x")
	blob := gzipped(content)
	for _, d := range []ocispec.Descriptor{
		{Digest: digest.FromString("other"), Size: int64(len(blob))},
		{Digest: digest.FromBytes(blob), Size: int64(len(blob)) - 1},
		{Digest: digest.FromBytes(blob), Size: int64(len(blob)) + 1},
	} {
		l := openLayout(t, t.TempDir())
		layer := Layer{d, digest.FromBytes(content)}
		if err := l.PushLayer(t.Context(), layer, bytes.NewReader(blob), nil); err == nil {
			t.Errorf("PushLayer of %v succeeded", d)
		}
		if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/*")); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	}
}

func TestOpenTarFullDisk(t *testing.T) {
	l := openLayout(t, t.TempDir())
	l.free = func(string) (uint64, uint64, error) { return 900 << 20, 10 << 30, nil }
	content := make([]byte, checkEvery+bufSize)
	blob := zstded(content)
	layer := Layer{push(t, l, "", blob), digest.FromBytes(content)}
	if _, err := l.OpenTar(t.Context(), layer); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "900 MiB of 10240 MiB") {
		t.Errorf("OpenTar with a full disk: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/*")); len(left) != 1 {
		t.Errorf("left %v, want the blob only", left)
	}
}

func TestOpenTarOnce(t *testing.T) {
	root := t.TempDir()
	content := tarOf("file", strings.Repeat("x", 1<<20))
	blob := gzipped(content)
	first := openLayout(t, root)
	layer := Layer{push(t, first, "", blob), digest.FromBytes(content)}
	if err := first.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	inodes := make([]os.FileInfo, 8)
	layouts := []*Layout{first, openLayout(t, root)} // the second stands for another process
	for i := range inodes {
		wg.Go(func() {
			f, err := layouts[i%2].OpenTar(t.Context(), layer)
			if err != nil {
				t.Error(err)
				return
			}
			inodes[i], _ = f.Stat()
			f.Close()
		})
	}
	wg.Wait()
	for i := range inodes {
		if !os.SameFile(inodes[0], inodes[i]) {
			t.Errorf("caller %d made a tar of its own", i)
		}
	}
	for _, l := range layouts {
		if err := l.Publish(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if got := read(t, first.BlobPath(layer.DiffID)); got != string(content) {
		t.Errorf("published tar has %d bytes", len(got))
	}
}

func TestOpenTarCancelled(t *testing.T) {
	l := openLayout(t, t.TempDir())
	content := tarOf("file", "x")
	layer := Layer{push(t, l, "", gzipped(content)), digest.FromBytes(content)}
	other, err := l.OpenBlob(layer.Blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := waitFlock(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := l.OpenTar(ctx, layer); !errors.Is(err, why) {
		t.Errorf("OpenTar while another works = %v, want %v", err, why)
	}
	if _, err := l.OpenTar(t.Context(), Layer{Describe("", []byte("gone")), digest.FromString("gone")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenTar of nothing: %v", err)
	}
}

func BenchmarkOpenResolveImage(b *testing.B) {
	root := b.TempDir()
	l := openLayout(b, root)
	ref := mustParse(b, "app")
	if err := l.Tag(b.Context(), ref, writeImage(b, l, "x").Descriptor); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l := openLayout(b, root)
		d, err := l.Resolve(b.Context(), ref)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Image(b.Context(), d, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	l := openLayout(b, b.TempDir())
	img := writeImage(b, l, "x")
	for i := range 1000 {
		r := mustParse(b, fmt.Sprint("app", i))
		if err := l.Publish(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := l.writeRecord(l.recordPath(r, ""), Named{r, img.Descriptor, img.ID()}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if all, err := l.List(b.Context()); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
}
