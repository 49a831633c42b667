package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// write makes images of the results: one, or an index of several.
func (h *Home) write(ctx context.Context, o BuildOptions, r *BuildResult, results []*executor.Image) error {
	var manifests []ocispec.Descriptor
	for _, result := range results {
		img, err := h.Layout.Write(ctx, result.Config, result.Layers, o.Annotations)
		if err != nil {
			return err
		}
		r.Images = append(r.Images, img)
		d := img.Descriptor
		d.Platform = &ocispec.Platform{
			OS: img.Config.OS, Architecture: img.Config.Architecture, Variant: img.Config.Variant,
			OSVersion: img.Config.OSVersion, OSFeatures: img.Config.OSFeatures,
		}
		manifests = append(manifests, d)
	}
	r.Descriptor = r.Images[0].Descriptor
	if len(manifests) == 1 {
		return nil
	}
	raw, index, err := image.NewIndex(manifests, o.Annotations)
	if err != nil {
		return err
	}
	r.Descriptor, err = h.Layout.Push(ctx, index, image.Bytes(raw))
	return err
}

// tagAll publishes an image under its names, or without one.
func (h *Home) tagAll(ctx context.Context, r *BuildResult, tags []image.Reference) error {
	if len(tags) == 0 {
		return h.Layout.Tag(ctx, image.Reference{}, r.Descriptor)
	}
	for _, ref := range tags {
		n := image.Named{Reference: ref, Descriptor: r.Descriptor}
		for _, pushed := range r.Pushed {
			if pushed.Reference == ref {
				n.Remote = pushed.Descriptor.Digest
			}
		}
		if n.Remote != "" {
			whole, err := h.haveAll(ctx, r.Images)
			if err != nil {
				return err
			}
			n.Away = !whole
		}
		if err := h.Layout.TagAll(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// haveAll reports whether all layers of images are in the store, and makes sure that they hold what the images say of them.
func (h *Home) haveAll(ctx context.Context, images []*image.Image) (bool, error) {
	var all []image.Layer
	for _, img := range images {
		for _, l := range img.Layers() {
			if here, err := h.Layout.HaveLayer(ctx, l); !here || err != nil {
				return false, err
			}
			all = append(all, l)
		}
	}
	return true, h.Layout.Prove(ctx, all)
}

// outputFiles writes the file systems themselves: as a tar, or into a directory. Several platforms each have a
// directory of their own in it.
func (h *Home) outputFiles(ctx context.Context, o BuildOptions, out Output, r *BuildResult) error {
	if out.Type == "tar" && len(r.Images) > 1 {
		return errors.New("a tar holds one platform: use type=local, or one --platform")
	}
	for _, img := range r.Images {
		sub := ""
		if len(r.Images) > 1 {
			sub = strings.ReplaceAll(platforms.Format(img.Config.Platform), "/", "_")
		}
		if err := h.outputTree(ctx, o, out, sub, img); err != nil {
			return err
		}
	}
	return nil
}

// outputTree writes the files of an image: as a tar, or to a directory, in which sub is that of its platform if there are several.
func (h *Home) outputTree(ctx context.Context, o BuildOptions, out Output, sub string, img *image.Image) (err error) {
	view, err := h.view(ctx, img.Layers())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	if out.Type == "local" {
		whole, err := h.attested(ctx, o.Attest, img, view)
		if err != nil {
			return err
		}
		return outputDir(ctx, out, sub, whole, o.Events)
	}
	return writeTo(ctx, out.Dest, out.Out, func(w io.Writer) error {
		meter := image.Meter{Blob: ocispec.Descriptor{Digest: digest.Digest("file:" + filepath.Base(out.Dest)), Size: -1}, Events: o.Events}
		if err := snapshot.Export(ctx, view, io.MultiWriter(w, &meter)); err != nil {
			return err
		}
		meter.Report(event.Copied)
		return nil
	})
}

// outputDir writes a tree to the directory of an output, or gives it to who takes its files.
func outputDir(ctx context.Context, out Output, sub string, whole snapshot.Tree, events event.Sink) error {
	dir, name := filepath.Join(out.Dest, sub), "files"
	if out.Files == nil {
		name = dir
		if err := os.MkdirAll(out.Dest, 0o755); err != nil {
			return err
		}
	}
	tree, err := measure(ctx, whole, name, events)
	if err != nil {
		return err
	}
	// Who built this is not trusted with root's power over this machine, nor with the user's.
	plain := snapshot.Plain(tree)
	switch {
	case out.Files != nil:
		err = out.Files(ctx, sub, plain)
		tree.end(err)
		return err
	case out.Attrs["special"] == "true":
		err = snapshot.ExportDir(ctx, tree, out.Dest, sub)
		tree.end(err)
		return err
	}
	err = snapshot.ExportDir(ctx, plain, out.Dest, sub)
	tree.end(err)
	if left := plain.LeftOut(); left != "" && err == nil {
		events.Send(event.Event{Kind: event.Warning, Text: "left out of " + dir + ": " + left + " (the attribute special=true writes them)"})
	}
	return err
}

// A measured is a tree that reports what is read of its files.
type measured struct {
	snapshot.Tree
	meter *image.Meter
}

// measure makes one of a tree that is to be written to a directory.
func measure(ctx context.Context, tree snapshot.Tree, dir string, events event.Sink) (*measured, error) {
	m := &measured{tree, &image.Meter{Blob: ocispec.Descriptor{Digest: digest.Digest("file:" + filepath.Base(dir))}, Events: events}}
	if events == nil {
		return m, nil
	}
	return m, filetree.Walk(ctx, tree, ".", func(_ string, e *filetree.Entry, _ *filetree.Sum) error {
		if e != nil && e.Mode&syscall.S_IFMT == syscall.S_IFREG {
			m.meter.Blob.Size += e.Size
		}
		return nil
	})
}

// end reports that all was read, unless there was an error.
func (m *measured) end(err error) {
	if err == nil {
		m.meter.Report(event.Copied)
	}
}

// Open implements filetree.Tree.
func (m *measured) Open(name string) (filetree.File, error) {
	f, err := m.Tree.Open(name)
	if err != nil {
		return nil, err
	}
	return measuredFile{f, m.meter}, nil
}

type measuredFile struct {
	filetree.File
	meter *image.Meter
}

func (f measuredFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	_, _ = f.meter.Write(p[:n])
	return n, err
}

// writeTo has write write to a destination: a file, which appears whole or not at all, or whatever else [durable.Output] writes
// to. "-" is stdout.
func writeTo(ctx context.Context, dest string, stdout io.Writer, write func(io.Writer) error) (err error) {
	if dest == "-" {
		return write(stdout)
	}
	f, err := durable.Output(ctx, dest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(f); err != nil {
		return err
	}
	if err := failpoint.At("forge.output.before-rename"); err != nil {
		return err
	}
	return f.Commit()
}

// checkDest finds out, before there is something to write, whether something can be written to a destination of a user.
func checkDest(dest string) error {
	if dest == "" || dest == "-" {
		return nil
	}
	return durable.CheckOutput(dest)
}

// Input reads from r, such as standard input. When ctx ends, reading ends, too, even if nobody writes.
func Input(ctx context.Context, r io.Reader) io.Reader { return durable.Patient(ctx, r) }

// openInput opens a file that the user has named; "-" is stdin.
func openInput(ctx context.Context, path string, stdin io.Reader) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(Input(ctx, stdin)), nil
	}
	return durable.Input(ctx, path)
}

// compression is what an output says of its layers' compression.
func (o *Output) compression() (CompressionOptions, error) {
	c := CompressionOptions{Compression: o.Attrs["compression"], Recompress: o.Attrs["force-compression"] == "true"}
	if text := o.Attrs["compression-level"]; text != "" {
		var err error
		if c.Level, err = strconv.Atoi(text); err != nil {
			return c, fmt.Errorf("compression-level %q: must be a number", text)
		}
	}
	_, err := image.ParseCompression(c.Compression, c.Level)
	return c, err
}

// ID is what names the result for people: the image's ID, or the digest of the index, as the registry knows it if it was
// pushed.
func (r *BuildResult) ID() digest.Digest {
	if len(r.Images) == 1 {
		return r.Images[0].ID()
	}
	return r.Shown().Digest
}

// TagNames are the whole names of the result, with commas between them.
func (r *BuildResult) TagNames() string {
	names := make([]string, len(r.Tags))
	for i, ref := range r.Tags {
		names[i] = ref.String()
	}
	return strings.Join(names, ",")
}

// Shown is what others will ask for: what a registry knows the result as, if it was pushed.
func (r *BuildResult) Shown() ocispec.Descriptor {
	if n := len(r.Pushed); n > 0 {
		return r.Pushed[n-1].Descriptor
	}
	return r.Descriptor
}

// writeID writes the image's ID to the file that was asked for.
func (o *ResultOptions) writeID(ctx context.Context, r *BuildResult) error {
	if o.IIDFile != "" {
		if err := durable.WriteOutput(ctx, o.IIDFile, []byte(r.ID().String())); err != nil {
			return fmt.Errorf("--iidfile: %w", err)
		}
	}
	return nil
}
