package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// ImportOptions say what root file system to import, and what becomes of it.
type ImportOptions struct {
	File     string    // a tar, plain or compressed, or the URL of one; "-" is Stdin
	Stdin    io.Reader // for "-"
	Name     string    // "" makes an image without a name
	Changes  []string  // instructions that change only the configuration
	Message  string    // for the history
	Platform string    // os/arch[/variant]; "" is this machine's

	Events event.Sink // takes how far it has come, one event at a time; may be nil
}

// Import makes an image of one layer out of the tar of a root file system.
func (h *Home) Import(ctx context.Context, o ImportOptions) (_ *image.Image, err error) {
	var ref image.Reference
	if o.Name != "" {
		refs, err := parseTags([]string{o.Name})
		if err != nil {
			return nil, err
		}
		ref = refs[0]
	}
	config, err := importConfig(ctx, o)
	if err != nil {
		return nil, err
	}
	in, err := h.openImport(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	defer queue(&o.Events)()
	img, err := h.Layout.Import(ctx, in, config, o.Events)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if err := h.index(ctx, img); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if err := h.Layout.Tag(ctx, ref, img.Descriptor); err != nil {
		return nil, err
	}
	h.imageEvent("import", img.ID().String(), o.Name)
	return img, nil
}

// openImport opens the tar. What is downloaded lies in the store as a blob that nothing names, until the next prune.
func (h *Home) openImport(ctx context.Context, o ImportOptions) (io.ReadCloser, error) {
	if !source.IsURL(o.File) {
		return openInput(ctx, o.File, o.Stdin)
	}
	downloads := source.Downloads{Layout: h.Layout, Known: h.downloads}
	d, err := downloads.Get(ctx, o.File, source.Download{}, "")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return h.Layout.OpenBlob(d.Digest)
}

// index reads an image's layers as a file system, so that one that cannot be read is refused before it has a name.
func (h *Home) index(ctx context.Context, img *image.Image) error {
	view, err := h.view(ctx, img.Layers())
	if err != nil {
		return err
	}
	return view.Close()
}

// importConfig is the configuration of an imported image: what a build file of the changes alone would give it.
func importConfig(ctx context.Context, o ImportOptions) (image.Config, error) {
	text := "FROM scratch\n" + strings.Join(o.Changes, "\n") + "\n"
	file, err := parser.Parse("--change", []byte(text), parser.Options{})
	if err != nil {
		return image.Config{}, err
	}
	platform := thisPlatform()
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return image.Config{}, err
	}
	if want != nil {
		platform = *want
	}
	g, err := planner.Plan(ctx, file, planner.Options{Platform: platform, BuildPlatform: thisPlatform()})
	if err != nil {
		return image.Config{}, err
	}
	if len(g.Steps) > 0 {
		return image.Config{}, fmt.Errorf("--change %q: must not change files", g.Steps[0].Name)
	}
	now := time.Now().UTC()
	g.Config.Created = &now
	first := ocispec.History{Created: &now, CreatedBy: "forge import", Comment: o.Message}
	g.Config.History = append([]ocispec.History{first}, g.Config.History...)
	for i := range g.Config.History {
		g.Config.History[i].Created = &now
	}
	return g.Config, nil
}
