package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
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

	"github.com/forge-build/forge/internal/flock"
)

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
	t.Parallel()
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
		{"window", "window size exceeded", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x90, 1, 0, 0}}, // of 256 MiB,
	} {
		t.Run(test.name, func(t *testing.T) {
			layer := Layer{describe("", test.blob), digest.FromBytes(content)}
			for _, way := range []string{"OpenTar", "PushLayer"} {
				l := openLayout(t, t.TempDir())
				var tap bytes.Buffer
				var err error
				if way == "OpenTar" {
					push(t, l, "", test.blob)
				} else {
					err = l.PushLayer(t.Context(), layer, Incoming{Reader: bytes.NewReader(test.blob)}, &tap)
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
	t.Parallel()
	content := tarOf("file", "x")
	blob := gzipped(content)
	for _, d := range []ocispec.Descriptor{
		{Digest: digest.FromString("other"), Size: int64(len(blob))},
		{Digest: digest.FromBytes(blob), Size: int64(len(blob)) - 1},
		{Digest: digest.FromBytes(blob), Size: int64(len(blob)) + 1},
	} {
		l := openLayout(t, t.TempDir())
		layer := Layer{d, digest.FromBytes(content)}
		if err := l.PushLayer(t.Context(), layer, Incoming{Reader: bytes.NewReader(blob)}, nil); err == nil {
			t.Errorf("PushLayer of %v succeeded", d)
		}
		if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/*")); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	}
}

func TestOpenTarFullDisk(t *testing.T) {
	t.Parallel()
	long(t)
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
	t.Parallel()
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
	t.Parallel()
	l := openLayout(t, t.TempDir())
	content := tarOf("file", "x")
	layer := Layer{push(t, l, "", gzipped(content)), digest.FromBytes(content)}
	other, err := l.OpenBlob(layer.Blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := flock.Try(other, flock.Exclusive); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := l.OpenTar(ctx, layer); !errors.Is(err, why) {
		t.Errorf("OpenTar while another works = %v, want %v", err, why)
	}
	if _, err := l.OpenTar(t.Context(), Layer{describe("", []byte("gone")), digest.FromString("gone")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenTar of nothing: %v", err)
	}
}

// TestPushLayerAdopted: of a blob that is adopted, the file that came is made durable, and not the one in whose place it came.
func TestPushLayerAdopted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	l, err := OpenLayout(root, s)
	if err != nil {
		t.Fatal(err)
	}
	tar := make([]byte, 10240)
	var blob bytes.Buffer
	z := gzip.NewWriter(&blob)
	if _, err := z.Write(tar); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	came := filepath.Join(root, "came")
	if err := os.WriteFile(came, blob.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob.Bytes()), Size: int64(blob.Len())}
	in := Incoming{Reader: bytes.NewReader(blob.Bytes()), Adopt: func(path string) error { return os.Rename(came, path) }}
	if err := l.PushLayer(t.Context(), Layer{Blob: d, DiffID: digest.FromBytes(tar)}, in, nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.batch() {
		open, err1 := f.file.Stat()
		there, err2 := os.Stat(f.path)
		if err1 != nil || err2 != nil || !os.SameFile(open, there) {
			t.Errorf("%s: another file is made durable (%v, %v)", f.final, err1, err2)
		}
	}
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if read(t, l.BlobPath(d.Digest)) != blob.String() {
		t.Error("the blob is another one")
	}
}
