package forge

import (
	"context"
	"errors"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
)

// openDaemon has docker's daemon write the image to a temporary file, which is gone when it is closed.
func (p place) openDaemon(ctx context.Context) (_ origin, done func() error, err error) {
	f, err := os.CreateTemp("", "forge-daemon-")
	if err != nil {
		return origin{}, nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	daemon, err := registry.ConnectDaemon(os.Getenv("DOCKER_HOST"))
	if err != nil {
		return origin{}, nil, err
	}
	defer daemon.Close() //nolint:errcheck // of idle connections
	body, err := daemon.Export(ctx, p.path)
	if err != nil {
		return origin{}, nil, err
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, body.Close()); err != nil {
		return origin{}, nil, err
	}
	a, err := image.OpenArchive(ctx, f.Name(), image.DockerArchive)
	if err != nil {
		return origin{}, nil, err
	}
	return origin{store: a}, a.Close, nil
}

// writeDaemon writes the image to a temporary file, which docker's daemon reads.
func (p place) writeDaemon(ctx context.Context, in origin, root ocispec.Descriptor, o registry.CopyOptions) (d ocispec.Descriptor, err error) {
	daemon, err := registry.ConnectDaemon(os.Getenv("DOCKER_HOST"))
	if err != nil {
		return d, p.explain(err)
	}
	defer daemon.Close() //nolint:errcheck // of idle connections
	f, err := os.CreateTemp("", "forge-daemon-")
	if err != nil {
		return d, p.explain(err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if d, err = p.writeArchive(ctx, f, in, root, o); err != nil {
		return d, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return d, p.explain(err)
	}
	err = daemon.Load(ctx, size, func() (io.ReadCloser, error) { return os.Open(f.Name()) })
	if err != nil {
		return d, p.explain(err)
	}
	return d, nil
}
