package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// contents is a client's directory in memory.
type contents struct {
	blobs map[digest.Digest][]byte
	names map[string]ocispec.Descriptor
	takes int // how many blobs were written
}

func (c *contents) Size(_ context.Context, d digest.Digest) (int64, error) {
	b, ok := c.blobs[d]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(b)), nil
}

func (c *contents) Read(_ context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c.blobs[d][offset:])), nil
}

func (c *contents) Write(_ context.Context, d digest.Digest, _ int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err == nil {
		c.blobs[d], c.takes = data, c.takes+1
	}
	return err
}

func (c *contents) Name(tag string, d ocispec.Descriptor) error {
	c.names[tag] = d
	return nil
}

// TestLentDir pushes to a client's directory and reads from it as from any store: what is wrong is not written, what is there is not
// written again, and the client is told the names.
func TestLentDir(t *testing.T) {
	t.Parallel()
	client := &contents{blobs: map[digest.Digest][]byte{}, names: map[string]ocispec.Descriptor{}}
	s, err := OpenLentDir(t.Context(), client, "", "")
	if err != nil {
		t.Fatal(err)
	}
	blob := describe(ocispec.MediaTypeImageLayer, []byte("layer"))
	if _, err := s.Push(t.Context(), blob, Bytes([]byte("LAYER"))); err == nil {
		t.Error("content of another digest is taken")
	}
	for range 2 {
		if _, err := s.Push(t.Context(), blob, Bytes([]byte("layer"))); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := s.Push(t.Context(), ocispec.Descriptor{}, Bytes([]byte("new"))); err != nil || d.Digest != digest.FromString("new") || d.Size != 3 {
		t.Errorf("a blob of an unknown digest is %v, %v", d, err)
	}
	if client.takes != 2 {
		t.Errorf("%d blobs were written, want 2", client.takes)
	}
	other := blob
	other.Size++
	for d, want := range map[*ocispec.Descriptor]bool{&blob: true, &other: false} {
		if got, err := s.Exists(t.Context(), *d); got != want || err != nil {
			t.Errorf("a blob of %d bytes is there: %v, %v", d.Size, got, err)
		}
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/x","digest":"` +
		blob.Digest.String() + `","size":5},"layers":[]}`)
	root := describe(ocispec.MediaTypeImageManifest, raw)
	if _, err := s.Resolve(t.Context(), Reference{Tag: "a"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tag that nothing has is %v", err)
	}
	if err := s.PushManifest(t.Context(), Reference{Tag: "a"}, root, raw); err != nil || client.names["a"].Digest != root.Digest {
		t.Fatalf("the client is told %v, %v", client.names, err)
	}
	again, err := OpenLentDir(t.Context(), client, "a", root.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := again.Resolve(t.Context(), Reference{Tag: "a"}); err != nil || d.Digest != root.Digest || d.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("the tag stands for %v, %v", d, err)
	}
	if tags, err := again.Tags(t.Context()); !slices.Equal(tags, []string{"a"}) || err != nil {
		t.Errorf("tags are %q, %v", tags, err)
	}
	if _, err := OpenLentDir(t.Context(), client, "a", digest.FromString("nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root that is not there is %v", err)
	}
}
