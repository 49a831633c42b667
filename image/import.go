package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
)

const maxTarEntries = 10_000_000

// Import makes an image of one layer out of a root file system's tar, compressed or not, and the configuration c; without
// a platform it is this machine's. The layer holds the tar's bytes as they are. Nothing is durable before Publish. events, which
// may be nil, takes the events of the layer.
func (l *Layout) Import(ctx context.Context, r io.Reader, c Config, events event.Sink) (*Image, error) {
	layer, err := l.TarLayer(ctx, r, events)
	if err != nil {
		return nil, err
	}
	if c.OS == "" && c.Architecture == "" {
		c.Platform = platforms.DefaultSpec()
	}
	return l.Write(ctx, c, []Layer{layer}, nil)
}

// TarLayer stages a tar, compressed or not, as a layer. It has to have entries.
func (l *Layout) TarLayer(ctx context.Context, r io.Reader, events event.Sink) (Layer, error) {
	content, _, err := Inflate(r)
	if err != nil {
		return Layer{}, err
	}
	defer content.Close()
	d, err := l.importTar(ctx, content, events)
	return Layer{d, d.Digest}, err
}

// importTar stages what r holds, which has to be a tar.
func (l *Layout) importTar(ctx context.Context, r io.Reader, events event.Sink) (d ocispec.Descriptor, err error) {
	f, err := l.staging.Create()
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := l.output(ctx, f)
	pr, pw := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := checkTar(pr)
		pr.CloseWithError(err) // lets the writer go on, or tells it why not
		checked <- err
	}()
	meter := &Meter{Events: events, Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: "file:tar", Size: -1}}
	err = copyAhead(io.MultiWriter(out, pw, meter), r)
	pw.CloseWithError(err)
	if bad := <-checked; err == nil || errors.Is(err, bad) {
		err = bad
	}
	if err != nil {
		return d, err
	}
	meter.Report(event.Copied)
	d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sumDigest(out.hash), Size: out.n}
	return d, f.Commit(l.BlobPath(d.Digest))
}

// checkTar reads a tar to its end.
func checkTar(r io.Reader) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		_, err := t.Next()
		switch {
		case err == io.EOF && n == 0:
			return errors.New("is no tar of a root file system: it has no entries")
		case err == io.EOF:
			_, err = io.Copy(io.Discard, r)
			return err
		case err != nil:
			return fmt.Errorf("is no tar of a root file system: %w", err)
		case n == maxTarEntries:
			return fmt.Errorf("tar has more than %d entries", maxTarEntries)
		}
	}
}
