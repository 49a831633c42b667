package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
)

// Transfer copies an image from one place to another, each a NAME in a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG],
// docker-archive:FILE[:NAME] or docker-daemon:NAME, and returns what stands for it there. Of an index, a place that can hold but one image gets
// that of the platform here, unless platforms are chosen.
func (c *Client) Transfer(ctx context.Context, dst, src string, here ocispec.Platform, o CopyOptions) (d ocispec.Descriptor, err error) {
	from, err := parseSide(src)
	if err != nil {
		return d, err
	}
	to, err := parseSide(dst)
	if err != nil {
		return d, err
	}
	in, done, err := from.open(ctx, c)
	if err != nil {
		return d, from.explain(err)
	}
	defer func() { err = errors.Join(err, done()) }()
	root, err := in.Store.Resolve(ctx, from.ref)
	if err != nil {
		return d, from.explain(err)
	}
	if (to.kind == sideDockerArchive || to.kind == sideDaemon) && o.Platforms == nil {
		o.Platforms = []ocispec.Platform{here}
	}
	return to.write(ctx, c, in, root, o)
}

// A Source is what images are copied from.
type Source struct {
	Store image.Store
	Repo  *Repository // the store, if it is one
}

// Source is the repository as one.
func (r *Repository) Source() Source { return Source{r, r} }

// Reject is told of a blob whose content is wrong, and reports whether there is another place to get it from.
func (s Source) Reject(d digest.Digest) bool { return s.Repo != nil && s.Repo.Reject(d) }

// A sideKind is a kind of store that an image is copied from or to.
type sideKind string

const (
	sideRegistry      sideKind = "docker"
	sideDir           sideKind = "oci"
	sideOCIArchive    sideKind = "oci-archive"
	sideDockerArchive sideKind = "docker-archive"
	sideDaemon        sideKind = "docker-daemon"
)

// A side is one side of a copy: a place to read from or to write to.
type side struct {
	text string // as people wrote it
	kind sideKind
	path string          // of the directory or file
	ref  image.Reference // in it; in a directory or an archive it may be a tag alone, or zero
}

// parseSide reads NAME, docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or docker-daemon:NAME.
func parseSide(s string) (side, error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch sideKind(kind) {
	case sideDaemon:
		ref, err := image.ParseReference(rest)
		if err != nil {
			return side{}, fmt.Errorf("%s: %w", s, err)
		}
		return side{text: s, kind: sideDaemon, path: ref.Familiar(), ref: ref}, nil
	case sideDir, sideOCIArchive, sideDockerArchive:
		if !ok || rest == "" {
			return side{}, fmt.Errorf("%q: want %s:PATH", s, kind)
		}
		p := side{text: s, kind: sideKind(kind)}
		path, name, _ := strings.Cut(rest, ":")
		p.path, p.ref = path, image.Reference{Tag: name}
		if path == "" {
			return side{}, fmt.Errorf("%q: has no path", s)
		}
		if p.kind != sideDockerArchive || name == "" {
			return p, nil
		}
		ref, err := image.ParseReference(name) // docker's archives have whole names
		p.ref = ref
		return p, err
	}
	ref, err := image.ParseReference(strings.TrimPrefix(s, "docker://"))
	return side{text: s, kind: sideRegistry, ref: ref}, err
}

// explain says where an error came about, unless a registry has said so.
func (p side) explain(err error) error {
	if p.kind == sideRegistry {
		return err
	}
	return fmt.Errorf("%s: %w", p.text, err)
}

// open opens a place to read from. What it returns closes it.
func (p side) open(ctx context.Context, client *Client) (_ Source, done func() error, err error) {
	done = func() error { return nil }
	switch p.kind {
	case sideDir:
		d, err := image.OpenDir(p.path)
		return Source{Store: d}, done, err
	case sideOCIArchive, sideDockerArchive:
		a, err := image.OpenArchive(ctx, p.path, p.format())
		if err != nil {
			return Source{}, nil, err
		}
		return Source{Store: a}, a.Close, nil
	case sideDaemon:
		return p.openDaemon(ctx)
	}
	repo, err := client.Connect(p.ref)
	return repo.Source(), done, err
}

func (p side) format() image.ArchiveFormat { return image.ArchiveFormat(p.kind) }

// write copies root of in to the place.
func (p side) write(ctx context.Context, client *Client, in Source, root ocispec.Descriptor, o CopyOptions) (ocispec.Descriptor, error) {
	o.Reject = in.Reject
	switch p.kind {
	case sideDir:
		dir, err := image.CreateDir(p.path)
		if err != nil {
			return root, p.explain(err)
		}
		d, err := Copy(ctx, dir, in.Store, root, o)
		if err != nil {
			return d, err
		}
		return d, dir.Tag(ctx, p.ref, d)
	case sideOCIArchive, sideDockerArchive:
		return p.writeFile(ctx, in, root, o)
	case sideDaemon:
		return p.writeDaemon(ctx, in, root, o)
	}
	repo, err := client.Connect(p.ref)
	if err != nil {
		return root, err
	}
	repo = repo.Writable().Whole()
	if in.Repo != nil {
		repo.MountFrom(repo.MountsOf(in.Repo))
	}
	o.Name = p.ref
	return Copy(ctx, repo, in.Store, root, o)
}

func (p side) writeFile(ctx context.Context, in Source, root ocispec.Descriptor, o CopyOptions) (d ocispec.Descriptor, err error) {
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

func (p side) writeArchive(ctx context.Context, w io.Writer, in Source, root ocispec.Descriptor, o CopyOptions) (d ocispec.Descriptor, err error) {
	a := image.NewArchiveWriter(w)
	o.Concurrency = 1 // files of an archive follow each other
	o.Reject = nil    // what has been written of wrong content stays
	d, err = Copy(ctx, a, in.Store, root, o)
	if errors.Is(err, image.ErrMismatch) {
		err = fmt.Errorf("%w: the archive cannot be finished, copy again", err)
	}
	if err != nil {
		return d, err
	}
	if err := errors.Join(a.Tag(ctx, p.ref, d), a.Close()); err != nil {
		return d, p.explain(err)
	}
	return d, nil
}

// openDaemon has docker's daemon write the image to a temporary file, which is gone when it is closed.
func (p side) openDaemon(ctx context.Context) (_ Source, done func() error, err error) {
	daemon, err := ConnectDaemon(os.Getenv("DOCKER_HOST"))
	if err != nil {
		return Source{}, nil, err
	}
	defer daemon.Close() //nolint:errcheck // of idle connections
	body, err := daemon.Export(ctx, p.path)
	if err != nil {
		return Source{}, nil, err
	}
	a, err := image.ReadArchive(ctx, body, image.DockerArchive)
	if closed := body.Close(); err == nil && closed != nil {
		err = errors.Join(closed, a.Close())
	}
	if err != nil {
		return Source{}, nil, err
	}
	return Source{Store: a}, a.Close, nil
}

// writeDaemon writes the image to a temporary file, which docker's daemon reads.
func (p side) writeDaemon(ctx context.Context, in Source, root ocispec.Descriptor, o CopyOptions) (d ocispec.Descriptor, err error) {
	daemon, err := ConnectDaemon(os.Getenv("DOCKER_HOST"))
	if err != nil {
		return d, p.explain(err)
	}
	defer daemon.Close() //nolint:errcheck // of idle connections
	f, w, err := image.Temporary(ctx)
	if err != nil {
		return d, p.explain(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if d, err = p.writeArchive(ctx, w, in, root, o); err != nil {
		return d, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return d, p.explain(err)
	}
	err = daemon.Load(ctx, size, func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, size)), nil })
	if err != nil {
		return d, p.explain(err)
	}
	return d, nil
}
