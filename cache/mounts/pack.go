package mounts

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
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
	p := &openPack{file: f, w: bufio.NewWriterSize(f, 256<<10), hash: sha256.New()}
	if !s.distrusts() {
		return p, nil
	}
	// With the very chunks of a pack whose content is wrong it would have the same digest, and a registry keeps what it has under a digest.
	if err := p.write(uniqueFrame()); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// uniqueFrame is a frame of no content that no other is like: one that zstd skips (RFC 8878, section 3.1.2).
func uniqueFrame() []byte {
	content := rand.Text()
	b := binary.LittleEndian.AppendUint32(nil, 0x184d2a50)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
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
