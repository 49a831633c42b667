package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
)

// CopyOptions say what to copy and how. The zero value copies everything as it is.
type CopyOptions struct {
	Platforms   []ocispec.Platform // which images of an index; none is all
	Index       IndexRule          // what stands for an index of which not all is copied
	Name        image.Reference    // that the copy gets; may be zero
	Forms       *Forms             // in which layers are copied; nil leaves them as they are
	Partial     *Partial           // where downloads wait to be whole; nil keeps nothing of them
	Concurrency int                // blobs on their way at once; 0 is 3
	Events      event.Sink         // takes the events of blobs, one at a time; may be nil
	There       []digest.Digest    // blobs that the destination is known to have; if it refuses the manifest, it is asked all the same

	// PushLayer, unless it is nil, stores the layers of images, instead of the destination's Push.
	PushLayer func(ctx context.Context, l image.Layer, in image.Incoming) error

	// Prove, unless it is nil, makes sure that layers which the destination has hold what their image says; see [image.Layout.Prove].
	Prove func(ctx context.Context, layers []image.Layer) error

	// Publish, unless it is nil, makes what has been stored visible to other processes. It is called for finished blobs
	// while others are still on their way, and at the end.
	Publish func(ctx context.Context) error

	// Reject, unless it is nil, is told that what the source gave of a blob is not its content, and reports whether it is
	// worth fetching again: see [Repository.Reject].
	Reject func(d digest.Digest) bool
}

// An IndexRule says what stands for an index of which not all images are copied.
type IndexRule string

// The rules.
const (
	ChosenImages IndexRule = ""     // an index of those that Platforms chooses; one image stands for itself
	HeldImages   IndexRule = "held" // the same, but images that the source has not are left out
	WholeIndex   IndexRule = "keep" // the index, as it is
)

// maxManifests bounds the manifests that one copy holds in memory, in bytes.
const maxManifests = 64 << 20

// Copy copies the manifest or index d, and all that it names, from src to dst, leaves first, and returns what stands for it
// there, which is not d where Platforms or Forms change something. What dst has is not copied. If anything fails, the name
// is not given.
func Copy(ctx context.Context, dst image.Store, src image.Fetcher, d ocispec.Descriptor, opts CopyOptions) (ocispec.Descriptor, error) {
	c := newCopier(dst, src, opts)
	if err := c.lookAtName(ctx); err != nil {
		return d, err
	}
	root, err := c.walk(ctx, d, 0)
	if err != nil {
		return d, err
	}
	pushed, err := c.copyAll(ctx, root)
	if len(c.there) > 0 && hasCode(err, "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_INVALID") {
		// The registry has lost what an image of it names. Ask for everything.
		c.there, c.prior = nil, ""
		pushed, err = c.copyAll(ctx, root)
	}
	if err != nil {
		return d, err
	}
	return pushed, nil
}

// CopyLayers copies layers from src to dst, and nothing that names them, and returns them in the forms that dst has, in their order.
func CopyLayers(ctx context.Context, dst image.Store, src image.Fetcher, layers []image.Layer, opts CopyOptions) ([]ocispec.Descriptor, error) {
	c := newCopier(dst, src, opts)
	copies := make([]*blobCopy, len(layers))
	for i, l := range layers {
		b, err := c.note(l.Blob, l.DiffID)
		if err != nil {
			return nil, err
		}
		copies[i] = b
	}
	if err := c.copyBlobs(ctx); err != nil {
		return nil, err
	}
	forms := make([]ocispec.Descriptor, len(layers))
	for i, b := range copies {
		forms[i] = b.to
	}
	return forms, c.publish(ctx)
}

func newCopier(dst image.Store, src image.Fetcher, opts CopyOptions) *copier {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 3
	}
	opts.Events = event.Stamped("", opts.Events)
	c := &copier{
		dst: dst, src: src, opts: opts, slots: make(chan struct{}, opts.Concurrency), makers: opts.Forms.makers(),
		noted: map[digest.Digest]*blobCopy{}, there: map[digest.Digest]bool{},
	}
	for _, d := range opts.There {
		c.there[d] = true
	}
	return c
}

// A copier is one Copy.
type copier struct {
	dst    image.Store
	src    image.Fetcher
	opts   CopyOptions
	slots  chan struct{} // one for each blob on its way
	makers chan struct{} // one for each layer that is given another form

	noted map[digest.Digest]*blobCopy
	blobs []*blobCopy // in the order in which they were found
	bytes int64       // of the manifests

	prior digest.Digest          // what the name stands for at the destination
	there map[digest.Digest]bool // blobs that it names
}

// A blobCopy is a blob to be copied.
type blobCopy struct {
	d     ocispec.Descriptor // in the source
	layer image.Layer        // of an image, if its configuration was read
	raw   []byte             // of a configuration, if that was read
	names []digest.Digest    // diffIDs that it names
	to    ocispec.Descriptor // in the destination; no digest as long as that is not known
}

// lookAtName finds out what the destination of a push has under the name already, so that pushing after a small change asks
// for nothing else. It is also the first request, which fails where the registry is dead or we may not push.
func (c *copier) lookAtName(ctx context.Context) error {
	if c.opts.Forms == nil || c.opts.Name.Tag == "" {
		return nil
	}
	d, err := c.dst.Resolve(ctx, c.opts.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && !answered(err) && !isConn(err):
		return nil // something that we cannot read, which is about to be replaced
	case err != nil:
		return err
	}
	doc, _, err := image.ReadDocument(ctx, c.dst, d)
	if err != nil || doc.IsIndex() {
		return nil
	}
	c.prior = d.Digest
	for _, child := range doc.Children() {
		c.there[child.Digest] = true
	}
	return nil
}

// copyAll copies all blobs, then the manifests, each after all that it names and the root last, under its name.
func (c *copier) copyAll(ctx context.Context, root *node) (ocispec.Descriptor, error) {
	if err := c.copyBlobs(ctx); err != nil {
		return root.d, err
	}
	d, manifests, err := c.manifests(root)
	if err != nil || d.Digest == c.prior {
		return d, err
	}
	if err := failpoint.At("registry.copy.before-manifests"); err != nil {
		return d, err
	}
	for _, m := range manifests[:len(manifests)-1] {
		if err := c.pushManifest(ctx, image.Reference{}, m); err != nil {
			return d, err
		}
	}
	if err := failpoint.At("registry.copy.before-name"); err != nil {
		return d, err
	}
	if err := c.pushManifest(ctx, c.opts.Name, manifests[len(manifests)-1]); err != nil {
		return d, err
	}
	return d, c.publish(ctx)
}

func (c *copier) pushManifest(ctx context.Context, name image.Reference, m ocispec.Descriptor) error {
	raw := m.Data
	m.Data = nil
	if err := c.dst.PushManifest(ctx, name, m, raw); err != nil {
		return fmt.Errorf("%s: %w", image.Noun(m.MediaType), err)
	}
	c.report(m, event.Copied, m.Size)
	return nil
}

// report sends that copied bytes of a blob have been copied.
func (c *copier) report(d ocispec.Descriptor, s event.State, copied int64) {
	(&image.Meter{Events: c.opts.Events, Blob: d, Bytes: copied}).Report(s)
}

func (c *copier) publish(ctx context.Context) error {
	if c.opts.Publish == nil {
		return nil
	}
	return c.opts.Publish(ctx)
}
