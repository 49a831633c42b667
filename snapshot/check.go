package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
)

// Check names the indexes that cannot be read and, if deep, those that are not what their layer's tar makes them. A
// repair deletes them: they are made again when they are needed.
func (s *Store) Check(ctx context.Context, deep, repair bool) (problems []string, err error) {
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
		err := s.checkIndex(ctx, path, d, deep)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, erofs.ErrOutdated) {
			continue // one of an earlier version is made anew when it is needed
		}
		problems = append(problems, fmt.Sprintf("%s: %v", path, err))
		if repair {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return problems, err
			}
		}
	}
	return problems, nil
}

// checkIndex opens an index and, if deep, makes it anew, staged, to compare.
func (s *Store) checkIndex(ctx context.Context, path string, d digest.Digest, deep bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	x, err := erofs.Open(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := x.Close(); err != nil || !deep {
		return err
	}
	info, err := os.Stat(s.layout.BlobPath(d))
	if err != nil {
		return err // of a layer that is gone
	}
	layer := image.Layer{Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: info.Size()}, DiffID: d}
	if err := s.makeIndex(ctx, layer); err != nil {
		return err
	}
	made, err := s.layout.Staging().Open(path)
	if err != nil {
		return err
	}
	defer made.Close()
	want, err := io.ReadAll(made)
	if err != nil {
		return err
	}
	have, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(have, want) {
		err = errors.New("is not the index of its layer")
	}
	return err
}
