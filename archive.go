package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// SaveOptions say how to save images, and where to. The zero value of all but File works.
type SaveOptions struct {
	File        string    // "-" is Stdout
	Stdout      io.Writer // for "-"
	Format      string    // oci-archive or docker-archive, also without -archive; "" is oci-archive
	Platform    string    // only the image for it; "" is all of an index, and for a docker-archive this machine's
	Compression string    // of layers: none, gzip or zstd; "" leaves them, and the manifest's digest, as they are
	Level       int       // 0 is the algorithm's own

	Events event.Sink // takes how far it has come, one event at a time; may be nil
}

// Save writes the images that names find to an archive.
func (h *Home) Save(ctx context.Context, names []string, o SaveOptions) (err error) {
	if err := checkDest(o.File); err != nil {
		return err
	}
	save := image.SaveOptions{Format: image.OCIArchive}
	if strings.HasPrefix(o.Format, "docker") {
		save.Format = image.DockerArchive
	}
	if save.Platform, err = parsePlatform(o.Platform); err != nil {
		return err
	}
	if o.Compression != "" {
		c, err := image.ParseCompression(o.Compression, o.Level)
		if err != nil {
			return err
		}
		save.Compression = &c
	}
	var images []image.Named
	for _, name := range names {
		n, err := h.Layout.Take(ctx, name)
		if err != nil {
			return notFound(name, err)
		}
		if n, err = h.whole(ctx, n, save.Platform, RemoteOptions{Events: o.Events}); err != nil {
			return err
		}
		if save.Platform != nil {
			if _, err := h.Layout.ImageFor(ctx, n.Descriptor, *save.Platform); err != nil {
				return fmt.Errorf("no suitable export target found for platform %s: %w", platforms.FormatAll(*save.Platform), noPlatform(name, err))
			}
		}
		if !byName(name, n) {
			n.Reference = image.Reference{} // what was asked for by ID is saved without a name
		}
		images = append(images, n)
	}
	defer queue(&o.Events)()
	save.Events = o.Events
	err = writeTo(ctx, o.File, o.Stdout, func(w io.Writer) error { return h.Layout.Save(ctx, w, images, save) })
	for _, n := range images {
		if err == nil {
			h.imageEvent("save", n.Descriptor.Digest.String(), nameOrDigest(n))
		}
	}
	return err
}

// LoadOptions say how to load images, and where from. The zero value of all but File works.
type LoadOptions struct {
	File     string    // "-" is Stdin
	Stdin    io.Reader // for "-"
	Platform string    // only the image for it; "" is all that the archive has

	Events event.Sink // takes how far it has come, one event at a time; may be nil
}

// Load reads an archive of images and returns what it names: familiar names, or IDs of images without one.
func (h *Home) Load(ctx context.Context, o LoadOptions) (names []string, err error) {
	load := image.LoadOptions{}
	if load.Platform, err = parsePlatform(o.Platform); err != nil {
		return nil, err
	}
	in, err := openInput(ctx, o.File, o.Stdin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	defer queue(&o.Events)()
	load.Events = o.Events
	loaded, err := h.Layout.Load(ctx, in, load)
	if _, foreign := errors.AsType[*image.PlatformError](err); foreign && load.Platform != nil {
		err = &NoPlatformError{text: fmt.Sprintf("requested platform (%s) not found: image might be filtered out: %v", platforms.FormatAll(*load.Platform), err)}
	}
	for _, n := range loaded {
		h.imageEvent("load", n.Descriptor.Digest.String(), nameOrDigest(n))
		names = append(names, nameOrDigest(n))
	}
	return names, err
}

// outputArchive writes what was built as an archive.
func (h *Home) outputArchive(ctx context.Context, out Output, tags []image.Reference, r *BuildResult, events event.Sink) error {
	o := image.SaveOptions{Format: image.OCIArchive, Events: events}
	if out.Type == "docker" && len(r.Images) > 1 {
		return errors.New("a docker archive holds one platform: use type=oci, or one --platform")
	}
	if out.Type == "docker" {
		o.Format = image.DockerArchive
	}
	if out.Attrs["compression"] != "" && out.Type == "oci" {
		said, err := out.compression()
		if err != nil {
			return err
		}
		o.Compression = &image.Compression{Algorithm: image.Algorithm(said.Compression), Level: said.Level}
	}
	images := []image.Named{{Descriptor: r.Descriptor}}
	if len(tags) > 0 {
		images = images[:0]
		for _, ref := range tags {
			images = append(images, image.Named{Reference: ref, Descriptor: r.Descriptor})
		}
	}
	if out.directory() {
		o.Format = image.OCIArchive
		return h.outputLayout(ctx, out, images, o)
	}
	return writeTo(ctx, out.Dest, out.Out, func(w io.Writer) error { return h.Layout.Save(ctx, w, images, o) })
}

// outputLayout writes what was built to an OCI layout, a directory of this machine or of the client, who writes the names.
func (h *Home) outputLayout(ctx context.Context, out Output, images []image.Named, o image.SaveOptions) error {
	if out.Layout != nil {
		store, err := image.OpenLentDir(ctx, out.Layout, "", "")
		if err != nil {
			return err
		}
		d, err := h.Layout.SaveTo(ctx, store, images[0], o)
		if err != nil {
			return err
		}
		return out.Layout.Name("", d)
	}
	dir, err := image.CreateDir(out.Dest)
	if err != nil {
		return err
	}
	d, err := h.Layout.SaveTo(ctx, dir, images[0], o)
	if err != nil {
		return err
	}
	for _, n := range images {
		if err := dir.Tag(ctx, n.Reference, d); err != nil {
			return err
		}
	}
	return nil
}
