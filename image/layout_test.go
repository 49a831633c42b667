package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// tarOf is a tar of files, given as name, content, name, content and so on.
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
	d := describe(mediaType, data)
	if _, err := l.Push(t.Context(), d, Bytes(data)); err != nil {
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
	l := openLayout(t, t.TempDir())
	good := []byte("content")
	for _, test := range []struct {
		name string
		d    ocispec.Descriptor
		r    io.Reader
		want string
	}{
		{"digest", describe("", []byte("CONTENT")), bytes.NewReader(good), "content has digest " + digest.FromBytes(good).String()},
		{"short", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: 8}, bytes.NewReader(good), "ends after 7 of 8 bytes"},
		{"long", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: 6}, bytes.NewReader(good), "is longer than its descriptor says"},
		{"endless", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: 7}, endless{}, "is longer than its descriptor says"},
		{"negative", ocispec.Descriptor{Digest: digest.FromBytes(good), Size: -1}, bytes.NewReader(good), "size -1 is out of range"},
		{"path", ocispec.Descriptor{Digest: "sha256:../../../../etc/passwd", Size: 7}, bytes.NewReader(good), "64 lower case hexadecimal digits"},
		{"algorithm", ocispec.Descriptor{Digest: digest.Digest("sha512:" + hexA + hexA), Size: 7}, bytes.NewReader(good), "only sha256 is supported"},
		{"error", describe("", good), io.MultiReader(strings.NewReader("con"), broken{}), "line is dead"},
	} {
		_, err := l.Push(t.Context(), test.d, Content{Open: func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(test.r), nil }})
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

// TestFetchDamaged: whoever reads a blob through Verify finds that it is damaged, shorter or longer than described.
func TestFetchDamaged(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	d := push(t, l, "", []byte("content"))
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{"content": "", "c0ntent": "content has digest", "conten": "ends after 6 of 7", "content ": "is longer"} {
		os.WriteFile(l.BlobPath(d.Digest), []byte(content), 0o600)
		r, err := l.Fetch(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(Verify(r, d)); !strings.Contains(errText(err), want) || (err == nil) != (want == "") {
			t.Errorf("Fetch of %q: %v, want %q", content, err, want)
		}
		r.Close()
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
		record, err := l.recordOf(Named{Reference: r, Descriptor: img.Descriptor, ID: img.ID()})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.staging.writeDurably("image.tag", record); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if all, err := l.List(b.Context()); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
}

// TestOpenLayoutHeader opens a layout whose header was damaged: it says nothing that is not known otherwise, so long as
// it does not say that the layout is of another version.
func TestOpenLayoutHeader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ header, want string }{
		{"", ""}, {`{"imageLayoutV`, ""}, {"\x00\x00", ""}, {`{"imageLayoutVersion":"9.0.0"}`, "image layout version \"9.0.0\" is not known"},
	} {
		root := t.TempDir()
		l := openLayout(t, root)
		tag(t, l, "app", writeImage(t, l, "x"))
		if err := os.WriteFile(filepath.Join(root, "images/oci-layout"), []byte(test.header), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := OpenLayout(root, openStaging(t, root))
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("header %q: %v, want %s", test.header, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("header %q: %v", test.header, err)
			continue
		}
		mustListWholeNamed(t, again, "app")
	}
}

func mustListWholeNamed(t *testing.T, l *Layout, name string) {
	t.Helper()
	d, err := l.Resolve(t.Context(), mustParse(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.whole(t.Context(), d); err != nil {
		t.Error(err)
	}
}

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
