package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
)

// Check finds the indexes that cannot be read and, if it is to be deep, those that are not what their layer's tar makes them.
// They can be deleted: an index is made again when it is needed.
func (s *Store) Check(ctx context.Context, o image.FsckOptions) (problems []*fs.PathError, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		hex, ok := strings.CutSuffix(e.Name(), ".erofs")
		d := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if !ok || d.Validate() != nil {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return problems, err
		}
		path := filepath.Join(s.dir, e.Name())
		err := openIndex(path)
		if err == nil && o.Deep {
			err = s.compareIndex(ctx, path, d)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, erofs.ErrOutdated) {
			continue // one of an earlier version is made anew when it is needed
		}
		problems = append(problems, &fs.PathError{Op: "check", Path: path, Err: err})
	}
	return problems, nil
}

// openIndex reports an error if an index cannot be read.
func openIndex(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	x, err := erofs.Open(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return x.Close()
}

// compareIndex compares an index with what the tar of its layer makes. If nothing can be made of that, the index is the better of the two:
// it stays.
func (s *Store) compareIndex(ctx context.Context, path string, d digest.Digest) error {
	info, err := os.Stat(s.layout.BlobPath(d))
	if err != nil {
		return err // of a layer that is gone
	}
	layer := image.Layer{Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: info.Size()}, DiffID: d}
	x, err := s.readLayer(ctx, layer)
	if err != nil {
		return nil //nolint:nilerr // that the tar is damaged is found where the blobs are checked
	}
	defer x.Close()
	sum, err := sumOf(d)
	if err != nil {
		return err
	}
	var want bytes.Buffer
	if err := x.index.Encode(&want, erofs.Tar{DiffID: sum, Size: x.pos}); err != nil {
		return err
	}
	have, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(have, want.Bytes()) {
		err = errors.New("is not the index of its layer")
	}
	return err
}
