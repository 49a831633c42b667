package forge

import (
	"context"
	"errors"
	"io"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// Save writes the images that names find to an archive.
func (h *Home) Save(ctx context.Context, w io.Writer, names []string, o image.SaveOptions) error {
	var images []image.Named
	for _, name := range names {
		n, err := h.Layout.Take(ctx, name)
		if err != nil {
			return notFound(name, err)
		}
		if !byName(name, n) {
			n.Reference = image.Reference{} // what was asked for by ID is saved without a name
		}
		images = append(images, n)
	}
	events := event.NewQueue(newID()[:12], o.Events)
	defer events.Close()
	o.Events = events.Sink()
	return h.Layout.Save(ctx, w, images, o)
}

// Load reads an archive of images and returns what it names: familiar names, or IDs of images without one. sink, which may be
// nil, takes how far it has come, one event at a time.
func (h *Home) Load(ctx context.Context, r io.Reader, sink event.Sink) ([]string, error) {
	events := event.NewQueue(newID()[:12], sink)
	defer events.Close()
	loaded, err := h.Layout.Load(ctx, r, events.Sink())
	var names []string
	for _, n := range loaded {
		names = append(names, nameOrDigest(n))
	}
	return names, err
}

// outputArchive writes what was built as an archive.
func (h *Home) outputArchive(ctx context.Context, out Output, tags []image.Reference, r *BuildResult) error {
	o := image.SaveOptions{Format: image.OCIArchive}
	if out.Type == "docker" && len(r.Images) > 1 {
		return errors.New("a docker archive holds one platform: use type=oci, or one --platform")
	}
	if out.Type == "docker" {
		o.Format = image.DockerArchive
	}
	if out.Attrs["compression"] != "" && out.Type == "oci" {
		c, err := out.compression()
		if err != nil {
			return err
		}
		o.Compression = &c
	}
	images := []image.Named{{Descriptor: r.Descriptor}}
	if len(tags) > 0 {
		images = images[:0]
		for _, ref := range tags {
			images = append(images, image.Named{Reference: ref, Descriptor: r.Descriptor})
		}
	}
	return out.Create(ctx, func(w io.Writer) error { return h.Layout.Save(ctx, w, images, o) })
}
