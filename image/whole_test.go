package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// asked is a context that ends when it was asked for its error so many times: each document that is read asks.
func asked(t *testing.T, times int) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &counted{ctx, times, cancel}
}

type counted struct {
	context.Context
	left   int
	cancel func()
}

func (c *counted) Err() error {
	if c.left--; c.left < 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// writeIndex stages an index of rows.
func writeIndex(t *testing.T, l *Layout, rows ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: rows})
	if err != nil {
		t.Fatal(err)
	}
	return push(t, l, ocispec.MediaTypeImageIndex, data)
}

// repeated stages an image, and an index that names it a thousand times.
func repeated(t *testing.T, l *Layout) (*Image, ocispec.Descriptor) {
	t.Helper()
	img := writeImage(t, l, "x")
	rows := make([]ocispec.Descriptor, 1000)
	for i := range rows {
		rows[i] = img.Descriptor
		rows[i].Platform = &img.Config.Platform
	}
	return img, writeIndex(t, l, rows...)
}

// TestManifestNamedOften holds that a manifest that an index names many times is read as if it were named once, and that reading ends
// with the context.
func TestManifestNamedOften(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img, d := repeated(t, l)
	n := Named{Reference: mustParse(t, "app"), Descriptor: d}
	save := func(ctx context.Context, w io.Writer) error {
		return l.Save(ctx, w, []Named{n}, SaveOptions{Compression: &Compression{Algorithm: Zstd}})
	}
	var archive bytes.Buffer
	if err := l.Save(asked(t, 100), &archive, []Named{n}, SaveOptions{}); err != nil {
		t.Fatalf("save: %v", err)
	}
	var names []string
	for range 1000 {
		names = append(names, `{"Config":"c.json","RepoTags":null,"Layers":["l"]}`)
	}
	layer := string(tarOf("file", "x"))
	docker := archiveOf("manifest.json", "["+strings.Join(names, ",")+"]", "c.json", configOf(digest.FromString(layer).String()), "l", layer)
	for what, do := range map[string]func(context.Context) error{
		"tag":  func(ctx context.Context) error { return l.TagAll(ctx, n) },
		"save": func(ctx context.Context) error { return save(ctx, io.Discard) },
		"load": func(ctx context.Context) error {
			_, err := openLayout(t, t.TempDir()).Load(ctx, bytes.NewReader(archive.Bytes()), LoadOptions{})
			return err
		},
		"load of docker's": func(ctx context.Context) error {
			_, err := openLayout(t, t.TempDir()).Load(ctx, bytes.NewReader(docker), LoadOptions{})
			return err
		},
		"load of one platform of docker's": func(ctx context.Context) error {
			_, err := openLayout(t, t.TempDir()).Load(ctx, bytes.NewReader(docker), LoadOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}})
			return err
		},
	} {
		if err := do(asked(t, 100)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := do(asked(t, 0)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s of a context that has ended: %v", what, err)
		}
	}
	if got, err := l.Resolve(t.Context(), n.Reference); err != nil || got.Digest != d.Digest {
		t.Errorf("the index is %s, %v", got.Digest, err)
	}
	if _, err := l.whole(asked(t, 1), d); !errors.Is(err, context.Canceled) {
		t.Errorf("a check that is to end after its first document: %v", err)
	}
	if _, err := l.whole(t.Context(), img.Descriptor); err != nil {
		t.Error(err)
	}
}

// TestReachNamedAsSomethingElse holds that an image that an index first names as a file of another kind is kept, and held to its
// diffIDs, as any other.
func TestReachNamedAsSomethingElse(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	file := img.Descriptor
	file.MediaType = "text/plain"
	d := writeIndex(t, l, file, img.Descriptor)
	n := Named{Reference: mustParse(t, "app"), Descriptor: d}
	if err := l.TagAll(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := prune(t, l, PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.whole(t.Context(), d); err != nil {
		t.Errorf("after prune: %v", err)
	}
	lie := configOf(digest.FromString("another tar").String())
	m := newManifest(1, nil)
	m.Config, m.Layers[0] = push(t, l, ocispec.MediaTypeImageConfig, []byte(lie)), img.Manifest.Layers[0]
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	liar := push(t, l, m.MediaType, raw)
	file.Digest, file.Size = liar.Digest, liar.Size
	n.Descriptor = writeIndex(t, l, file, liar)
	var archive bytes.Buffer
	if err := l.Save(t.Context(), &archive, []Named{n}, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := openLayout(t, t.TempDir()).Load(t.Context(), &archive, LoadOptions{}); err == nil || !strings.Contains(err.Error(), "not the diffID") {
		t.Errorf("load of an image whose layer is not what its configuration says: %v", err)
	}
}

// TestSaveBoundsDocuments holds that an index with more manifests than are to be in memory is refused.
func TestSaveBoundsDocuments(t *testing.T) {
	t.Parallel()
	long(t)
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	var rows []ocispec.Descriptor
	for size := 0; size <= maxDocuments; size += MaxManifestSize {
		m := img.Manifest
		m.Annotations = map[string]string{"n": fmt.Sprint(size), "x": strings.Repeat("x", MaxManifestSize-1000)}
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, push(t, l, m.MediaType, raw))
	}
	n := Named{Descriptor: writeIndex(t, l, rows...)}
	if err := l.Save(t.Context(), io.Discard, []Named{n}, SaveOptions{}); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("save: %v", err)
	}
}

// TestConfigOfMany holds that a configuration that many manifests have is read as if one had it.
func TestConfigOfMany(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	rows := make([]ocispec.Descriptor, 200)
	for i := range rows {
		m := img.Manifest
		m.Annotations = map[string]string{"number": strconv.Itoa(i)}
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = push(t, l, m.MediaType, raw)
	}
	n := Named{Reference: mustParse(t, "app"), Descriptor: writeIndex(t, l, rows...)}
	var archive bytes.Buffer
	if err := l.Save(t.Context(), &archive, []Named{n}, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	layer := string(tarOf("file", "x"))
	var items []string
	files := []string{"manifest.json", "", "c.json", configOf(digest.FromString(layer).String())}
	for i := range 200 {
		items = append(items, fmt.Sprintf(`{"Config":"c.json","RepoTags":null,"Layers":["l%d"]}`, i))
		files = append(files, fmt.Sprint("l", i), layer)
	}
	files[1] = "[" + strings.Join(items, ",") + "]"
	for _, test := range []struct {
		what string
		asks int
		do   func(ctx context.Context) error
	}{
		{"tag", 300, func(ctx context.Context) error { return l.TagAll(ctx, n) }},
		{"reach", 300, func(ctx context.Context) error { _, err := l.Reached(ctx); return err }},
		{"load", 1200, func(ctx context.Context) error {
			_, err := openLayout(t, t.TempDir()).Load(ctx, bytes.NewReader(archive.Bytes()), LoadOptions{})
			return err
		}},
		{"load of docker's", 500, func(ctx context.Context) error {
			_, err := openLayout(t, t.TempDir()).Load(ctx, bytes.NewReader(archiveOf(files...)), LoadOptions{})
			return err
		}},
	} {
		c := &counted{Context: t.Context(), left: 1 << 30}
		if err := test.do(c); err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if asks := 1<<30 - c.left; asks > test.asks {
			t.Errorf("%s: %d documents were read, want at most %d", test.what, asks, test.asks)
		}
	}
}
