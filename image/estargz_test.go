package image

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestEStargz(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := openLayout(t, t.TempDir())
	content := tarOf("etc/motd", "hello\n", "usr/big", string(bytes.Repeat([]byte("0123456789abcdef"), 1<<17)))
	d := push(t, l, ocispec.MediaTypeImageLayer, content)
	made, err := l.EStargz(ctx, Layer{Blob: d, DiffID: d.Digest}, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.OpenBlob(made.Blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// A reader finds a file by the table of contents, without what lies before it.
	r, err := estargz.Open(io.NewSectionReader(f, 0, made.Blob.Size))
	if err != nil {
		t.Fatal(err)
	}
	if got := made.Blob.Annotations[annotationTOC]; got != r.TOCDigest().String() {
		t.Errorf("the annotation says that the table of contents is %s, and it is %s", got, r.TOCDigest())
	}
	file, err := r.OpenFile("etc/motd")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(file)
	if err != nil || string(text) != "hello\n" {
		t.Errorf("etc/motd holds %q, %v", text, err)
	}
	// It is a layer like any other: its diffID is of the tar that it holds.
	tar, err := l.OpenTar(ctx, made)
	if err != nil {
		t.Fatalf("inflate: %v", err)
	}
	tar.Close()

	again, err := l.EStargz(ctx, Layer{Blob: d, DiffID: d.Digest}, 0)
	if err != nil || again.Blob.Digest != made.Blob.Digest {
		t.Errorf("the same layer gave %s and then %s, %v", made.Blob.Digest, again.Blob.Digest, err)
	}
}

func TestEStargzDamaged(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	content := tarOf("a", "hello\n")
	d := push(t, l, ocispec.MediaTypeImageLayer, content)
	if err := l.Publish(context.Background()); err != nil {
		t.Fatal(err)
	}
	content[512] ^= 1
	if err := os.WriteFile(l.BlobPath(d.Digest), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := l.EStargz(context.Background(), Layer{Blob: d, DiffID: d.Digest}, 0); err == nil {
		t.Errorf("a damaged layer was handed on as %s", made.Blob.Digest)
	}
}
