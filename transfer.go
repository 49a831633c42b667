package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/registry"
)

// CopyOptions say what to copy.
type CopyOptions struct {
	RemoteOptions
	Platforms []string // which images of an index, os/arch[/variant]; none is all
}

// Copy copies an image from one place to another, each a NAME in a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG],
// docker-archive:FILE[:NAME] or docker-daemon:NAME, and returns what stands for it there. Nothing of it is kept in a state directory.
func Copy(ctx context.Context, dst, src string, o CopyOptions) (d ocispec.Descriptor, err error) {
	platforms, err := parsePlatforms(o.Platforms)
	if err != nil {
		return d, err
	}
	from, err := parsePlace(src)
	if err != nil {
		return d, err
	}
	to, err := parsePlace(dst)
	if err != nil {
		return d, err
	}
	defer queue(&o.Events)()
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	in, done, err := from.open(ctx, client)
	if err != nil {
		return d, from.explain(err)
	}
	defer func() { err = errors.Join(err, done()) }()
	root, err := in.store.Resolve(ctx, from.ref)
	if err != nil {
		return d, from.explain(err)
	}
	if (to.kind == placeDockerArchive || to.kind == placeDaemon) && platforms == nil {
		platforms = []ocispec.Platform{thisPlatform()} // it has no place for an index
	}
	return to.write(ctx, client, in, root, registry.CopyOptions{Platforms: platforms, Events: o.Events})
}

// A placeKind is a kind of store that an image is copied from or to.
type placeKind string

const (
	placeRegistry      placeKind = "docker"
	placeDir           placeKind = "oci"
	placeOCIArchive    placeKind = "oci-archive"
	placeDockerArchive placeKind = "docker-archive"
	placeDaemon        placeKind = "docker-daemon"
)

// A place is one side of a copy.
type place struct {
	text string // as people wrote it
	kind placeKind
	path string          // of the directory or file
	ref  image.Reference // in it; in a directory or an archive it may be a tag alone, or zero
}

// parsePlace reads NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or docker-daemon:NAME.
func parsePlace(s string) (place, error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch placeKind(kind) {
	case placeDaemon:
		ref, err := image.ParseReference(rest)
		if err != nil {
			return place{}, fmt.Errorf("%s: %w", s, err)
		}
		return place{text: s, kind: placeDaemon, path: ref.Familiar(), ref: ref}, nil
	case placeDir, placeOCIArchive, placeDockerArchive:
		if !ok || rest == "" {
			return place{}, fmt.Errorf("%q: want %s:PATH", s, kind)
		}
		p := place{text: s, kind: placeKind(kind)}
		path, name, _ := strings.Cut(rest, ":")
		p.path, p.ref = path, image.Reference{Tag: name}
		if path == "" {
			return place{}, fmt.Errorf("%q: has no path", s)
		}
		if p.kind != placeDockerArchive || name == "" {
			return p, nil
		}
		ref, err := image.ParseReference(name) // docker's archives have whole names
		p.ref = ref
		return p, err
	}
	ref, err := image.ParseReference(strings.TrimPrefix(s, "docker://"))
	return place{text: s, kind: placeRegistry, ref: ref}, err
}

// explain says where an error came about, unless a registry has said so.
func (p place) explain(err error) error {
	if p.kind == placeRegistry {
		return err
	}
	return fmt.Errorf("%s: %w", p.text, err)
}

// An origin is what images are copied from.
type origin struct {
	store image.Store
	repo  *registry.Repository // the store, if it is one
}

// reject is told of a blob whose content is wrong, and reports whether there is another place to get it from.
func (o origin) reject(d digest.Digest) bool { return o.repo != nil && o.repo.Reject(d) }

// open opens a place to read from. What it returns closes it.
func (p place) open(ctx context.Context, client *registry.Client) (_ origin, done func() error, err error) {
	done = func() error { return nil }
	switch p.kind {
	case placeDir:
		d, err := image.OpenDir(p.path)
		return origin{store: d}, done, err
	case placeOCIArchive, placeDockerArchive:
		a, err := image.OpenArchive(ctx, p.path, p.format())
		if err != nil {
			return origin{}, nil, err
		}
		return origin{store: a}, a.Close, nil
	case placeDaemon:
		return p.openDaemon(ctx)
	}
	repo, err := client.Connect(p.ref)
	return origin{repo, repo}, done, err
}

func (p place) format() image.ArchiveFormat { return image.ArchiveFormat(p.kind) }

// write copies root of in to the place.
func (p place) write(ctx context.Context, client *registry.Client, in origin, root ocispec.Descriptor, o registry.CopyOptions) (ocispec.Descriptor, error) {
	o.Reject = in.reject
	switch p.kind {
	case placeDir:
		dir, err := image.CreateDir(p.path)
		if err != nil {
			return root, p.explain(err)
		}
		d, err := registry.Copy(ctx, dir, in.store, root, o)
		if err != nil {
			return d, err
		}
		return d, dir.Tag(ctx, p.ref, d)
	case placeOCIArchive, placeDockerArchive:
		return p.writeFile(ctx, in, root, o)
	case placeDaemon:
		return p.writeDaemon(ctx, in, root, o)
	}
	repo, err := client.Connect(p.ref)
	if err != nil {
		return root, err
	}
	repo = repo.Writable().Whole()
	if in.repo != nil {
		repo.MountFrom(repo.MountsOf(in.repo))
	}
	o.Name = p.ref
	return registry.Copy(ctx, repo, in.store, root, o)
}

func (p place) writeFile(ctx context.Context, in origin, root ocispec.Descriptor, o registry.CopyOptions) (d ocispec.Descriptor, err error) {
	f, err := durable.Output(ctx, p.path)
	if err != nil {
		return d, p.explain(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if d, err = p.writeArchive(ctx, f, in, root, o); err != nil {
		return d, err
	}
	return d, f.Commit()
}

func (p place) writeArchive(ctx context.Context, w io.Writer, in origin, root ocispec.Descriptor, o registry.CopyOptions) (d ocispec.Descriptor, err error) {
	a := image.NewArchiveWriter(w)
	o.Concurrency = 1 // files of an archive follow each other
	if d, err = registry.Copy(ctx, a, in.store, root, o); err != nil {
		return d, err
	}
	if err := errors.Join(a.Tag(ctx, p.ref, d), a.Close()); err != nil {
		return d, p.explain(err)
	}
	return d, nil
}

// receive copies an image into the store, for one platform if d is an index: each layer is verified, inflated and indexed while it
// arrives. Unless name is zero, it is named, as what name's repository has.
func (h *Home) receive(ctx context.Context, from origin, d ocispec.Descriptor, p ocispec.Platform, name image.Reference, events event.Sink) (ocispec.Descriptor, error) {
	got, err := registry.Copy(ctx, h.Layout, from.store, d, registry.CopyOptions{
		Platforms: []ocispec.Platform{p}, Index: registry.WholeIndex, Partial: h.partial(), Events: events,
		PushLayer: h.pushLayer, Publish: h.Layout.Publish, Reject: from.reject,
	})
	if err != nil || name == (image.Reference{}) {
		return got, err
	}
	return got, h.Layout.TagAll(ctx, image.Named{Reference: name, Descriptor: got, Remote: got.Digest})
}

// pushLayer takes a layer in one pass: its blob, its tar and the index that mounts the tar.
func (h *Home) pushLayer(ctx context.Context, l image.Layer, in image.Incoming) (err error) {
	snapshots, err := h.Snapshots()
	if err != nil {
		return err
	}
	indexer := snapshots.Indexer()
	defer func() { err = errors.Join(err, indexer.Close()) }()
	if err := h.Layout.PushLayer(ctx, l, in, indexer); err != nil {
		return err
	}
	return indexer.Finish(l.DiffID)
}

// elsewhere finds repositories of ref's registry that have layers already: those that images of the store are named for.
func (h *Home) elsewhere(ctx context.Context, ref image.Reference, c image.Compression) func(digest.Digest) string {
	const most = 10_000 // blobs that are remembered
	where := sync.OnceValue(func() map[digest.Digest]string {
		where := map[digest.Digest]string{}
		all, err := h.Layout.List(ctx)
		if err != nil {
			return where // it was only a guess
		}
		for _, n := range all {
			if n.Reference.Domain != ref.Domain || n.Reference.Path == ref.Path || len(where) > most {
				continue
			}
			img, err := h.Layout.AnyImage(ctx, n.Descriptor)
			if err != nil {
				continue
			}
			for _, l := range img.Layers() {
				where[l.Blob.Digest] = n.Reference.Path
				if form, ok := h.Layout.Compressed(l, c); ok {
					where[form.Digest] = n.Reference.Path
				}
			}
		}
		return where
	})
	return func(d digest.Digest) string { return where()[d] }
}
