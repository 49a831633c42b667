package mounts

import (
	"bufio"
	"context"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// An openPack is being filled, on disk.
type openPack struct {
	file *image.StagedFile
	w    *bufio.Writer
	hash hash.Hash
	size int64
}

func (s *Shelf) newPack() (*openPack, error) {
	f, err := s.Staging.Create()
	if err != nil {
		return nil, err
	}
	return &openPack{file: f, w: bufio.NewWriterSize(f, 256<<10), hash: sha256.New()}, nil
}

func (p *openPack) write(frame []byte) error {
	p.hash.Write(frame)
	p.size += int64(len(frame))
	_, err := p.w.Write(frame)
	return err
}

func (p *openPack) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: packType, Digest: digest.NewDigest(digest.SHA256, p.hash), Size: p.size}
}

// content is what the pack holds.
func (p *openPack) content() image.Content {
	return image.Content{Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		if err := p.w.Flush(); err != nil {
			return nil, err
		}
		return io.NopCloser(io.NewSectionReader(p.file, offset, p.size-offset)), nil
	}}
}

func (p *openPack) close() error { return p.file.Close() }
