package forge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
)

// ImportOptions say what an imported root file system becomes.
type ImportOptions struct {
	Name     string   // "" makes an image without a name
	Changes  []string // instructions that change only the configuration
	Message  string   // for the history
	Platform *ocispec.Platform
	Epoch    *time.Time
}

// Import makes an image of one layer out of the tar of a root file system, plain or compressed.
func (h *Home) Import(ctx context.Context, r io.Reader, o ImportOptions) (*image.Image, error) {
	var ref image.Reference
	if o.Name != "" {
		refs, err := parseTags([]string{o.Name})
		if err != nil {
			return nil, err
		}
		ref = refs[0]
	}
	layer, err := h.importLayer(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	config, err := importConfig(ctx, o)
	if err != nil {
		return nil, err
	}
	img, err := h.Layout.Write(ctx, config, []image.Layer{layer}, nil)
	if err != nil {
		return nil, err
	}
	return img, h.Layout.Tag(ctx, ref, img.Descriptor)
}

// importLayer stores a tar and indexes it, so that a bad one is refused before it has a name.
func (h *Home) importLayer(ctx context.Context, r io.Reader) (layer image.Layer, err error) {
	tar, _, err := image.Inflate(r)
	if err != nil {
		return layer, err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	f, err := h.staging.Create()
	if err != nil {
		return layer, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), contextReader{ctx, tar})
	if err != nil {
		return layer, err
	}
	d := digest.NewDigestFromBytes(digest.SHA256, sum.Sum(nil))
	layer = image.Layer{
		Blob:   ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: n},
		DiffID: d,
	}
	if err := f.Commit(h.Layout.BlobPath(d)); err != nil {
		return layer, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return layer, err
	}
	view, err := store.View(ctx, []image.Layer{layer})
	if err != nil {
		return layer, err
	}
	return layer, view.Close()
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// importConfig is the configuration of an imported image: what a build file of the changes alone would give it.
func importConfig(ctx context.Context, o ImportOptions) (image.Config, error) {
	text := "FROM scratch\n" + strings.Join(o.Changes, "\n") + "\n"
	file, err := parser.Parse("--change", []byte(text), parser.Options{})
	if err != nil {
		return image.Config{}, err
	}
	platform := thisPlatform()
	if o.Platform != nil {
		platform = *o.Platform
	}
	g, err := planner.Plan(ctx, file, planner.Options{Platform: platform, BuildPlatform: thisPlatform()})
	if err != nil {
		return image.Config{}, err
	}
	if len(g.Steps) > 0 {
		return image.Config{}, fmt.Errorf("--change %q: must not change files", g.Steps[0].Name)
	}
	now := time.Now().UTC()
	if o.Epoch != nil {
		now = *o.Epoch
	}
	g.Config.Created = &now
	first := ocispec.History{Created: &now, CreatedBy: "forge import", Comment: o.Message}
	g.Config.History = append([]ocispec.History{first}, g.Config.History...)
	for i := range g.Config.History {
		g.Config.History[i].Created = &now
	}
	return g.Config, nil
}
