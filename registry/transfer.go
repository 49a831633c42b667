package registry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// An Endpoint is one side of a transfer, as people write it: NAME or docker://NAME in a registry, oci:DIR[:TAG],
// oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME].
type Endpoint struct {
	Kind string          // docker, oci, oci-archive or docker-archive
	Path string          // of the directory or file
	Tag  string          // in it; "" if not given
	Ref  image.Reference // of kind docker
}

// ParseEndpoint reads an endpoint.
func ParseEndpoint(s string) (Endpoint, error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch kind {
	case "oci", "oci-archive", "docker-archive":
		if !ok || rest == "" {
			return Endpoint{}, fmt.Errorf("%q: want %s:PATH", s, kind)
		}
		e := Endpoint{Kind: kind}
		e.Path, e.Tag, _ = strings.Cut(rest, ":")
		if e.Path == "" {
			return Endpoint{}, fmt.Errorf("%q: has no path", s)
		}
		return e, nil
	}
	ref, err := image.ParseReference(strings.TrimPrefix(s, "docker://"))
	return Endpoint{Kind: "docker", Ref: ref}, err
}

func (e Endpoint) String() string {
	if e.Kind == "docker" {
		return e.Ref.String()
	}
	s := e.Kind + ":" + e.Path
	if e.Tag != "" {
		s += ":" + e.Tag
	}
	return s
}

// A reading is an endpoint open for a transfer from it.
type reading struct {
	Fetcher
	root  ocispec.Descriptor
	close func() error
}

// A writing is open for a transfer to it. finish makes root what the endpoint names, close gives back what finish did not.
type writing struct {
	Pusher
	finish func(ctx context.Context, root ocispec.Descriptor) error
	close  func() error
}

// Transfer copies an image from one endpoint to another, without a local store, and returns what stands for it there. A
// docker-archive holds one image: for it, opts.Platforms is this machine's if it is empty. Name, Partial and Sparse of opts
// are not looked at.
func Transfer(ctx context.Context, client *Client, dst, src Endpoint, opts CopyOptions) (d ocispec.Descriptor, err error) {
	in, err := client.openSource(ctx, src)
	if err != nil && src.Kind == "docker" {
		return d, err // names it
	}
	if err != nil {
		return d, fmt.Errorf("%s: %w", src, err)
	}
	defer func() { err = errors.Join(err, in.close()) }()
	opts.Name, opts.Partial, opts.Sparse = image.Reference{}, nil, false
	if dst.Kind == "docker-archive" && opts.Platforms == nil && image.IsIndex(in.root.MediaType) {
		opts.Platforms = []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}
	}
	if dst.Kind == "docker" {
		repo, err := client.Connect(dst.Ref)
		if err != nil {
			return d, err
		}
		opts.Name = dst.Ref
		return Copy(ctx, repo, in.Fetcher, in.root, opts)
	}
	out, err := openDestination(ctx, dst)
	if err != nil {
		return d, fmt.Errorf("%s: %w", dst, err)
	}
	defer func() { err = errors.Join(err, out.close()) }()
	if dst.Kind != "oci" {
		opts.Concurrency = 1 // files of an archive follow each other
	}
	if d, err = Copy(ctx, out.Pusher, in.Fetcher, in.root, opts); err != nil {
		return d, err
	}
	if err := out.finish(ctx, d); err != nil {
		return d, fmt.Errorf("%s: %w", dst, err)
	}
	return d, nil
}

func (c *Client) openSource(ctx context.Context, e Endpoint) (*reading, error) {
	switch e.Kind {
	case "oci":
		return readDir(e)
	case "oci-archive", "docker-archive":
		return readArchive(ctx, e)
	}
	repo, err := c.Connect(e.Ref)
	if err != nil {
		return nil, err
	}
	root, err := repo.Resolve(ctx, e.Ref)
	return &reading{Fetcher: repo, root: root, close: func() error { return nil }}, err
}

func openDestination(ctx context.Context, e Endpoint) (*writing, error) {
	if e.Kind == "oci" {
		return writeDir(e)
	}
	return writeArchive(ctx, e)
}

// annotationName is where tools of containerd's family keep full names in an index.
const annotationName = "io.containerd.image.name"

// pick finds what a tag names in the index of a layout; without a tag there must be only one. A tag may be the last part
// of a full name, if it is that of only one.
func pick(index ocispec.Index, tag string) (ocispec.Descriptor, error) {
	var names []string
	var tagged []ocispec.Descriptor
	for _, d := range index.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		full := d.Annotations[annotationName]
		if tag != "" && (name == tag || full == tag || d.Digest.String() == tag) {
			return d, nil
		}
		if strings.HasSuffix(name, ":"+tag) || strings.HasSuffix(full, ":"+tag) {
			tagged = append(tagged, d)
		}
		names = append(names, first(name, full, d.Digest.String()))
	}
	if tag != "" && len(tagged) == 1 {
		return tagged[0], nil
	}
	if tag == "" && len(index.Manifests) == 1 {
		return index.Manifests[0], nil
	}
	if len(names) == 0 {
		return ocispec.Descriptor{}, errors.New("holds no image")
	}
	if tag == "" {
		return ocispec.Descriptor{}, fmt.Errorf("holds %d images: say which: %s", len(names), clip(strings.Join(names, ", ")))
	}
	return ocispec.Descriptor{}, fmt.Errorf("holds no image %q, only %s", tag, clip(strings.Join(names, ", ")))
}

func first(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

// plainRoot is what an index may say of d: not what it was annotated with where it came from.
func plainRoot(d ocispec.Descriptor, tag string) ocispec.Descriptor {
	out := ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
	if tag != "" {
		out.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	}
	return out
}
