package image

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// Publish makes every committed file durable and renames it to its final path, replacing what is there, in the order in which
// they were committed: whoever finds a file whose process was killed meanwhile finds those that were there before it, such as the tar
// that a layer's blob holds. When it returns nil, the files are at their places and survive a power cut. With nothing staged it does
// nothing.
func (s *Staging) Publish(ctx context.Context) error {
	_, err := s.publish(ctx)
	return err
}

// publish is Publish. It returns the directories that it has synced.
func (s *Staging) publish(ctx context.Context) (synced map[string]bool, err error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	synced = map[string]bool{}
	for batch := s.batch(); s.lost == nil && len(batch) > 0; batch = s.replaced(batch) {
		dirs, err := s.publishBatch(ctx, batch)
		if err != nil {
			return nil, err
		}
		maps.Copy(synced, dirs)
	}
	return synced, s.lost
}

// publishBatch publishes files of which none has been replaced meanwhile. The caller holds publishing.
func (s *Staging) publishBatch(ctx context.Context, batch []*staged) (synced map[string]bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := failpoint.At("image.publish.before-sync"); err != nil {
		return nil, err
	}
	if s.lost = s.sync(batch); s.lost != nil {
		return nil, errors.Join(s.lost, takeAway(batch))
	}
	if err := failpoint.At("image.publish.before-rename"); err != nil {
		return nil, err
	}
	// Until something names them, nothing but the lease keeps them.
	if err := s.lease.hold(ctx, s.blobs(batch)); err != nil {
		return nil, err
	}
	dirs, err := s.rename(batch)
	if err == nil {
		err = failpoint.At("image.publish.after-rename")
	}
	if !s.scratch { // what has been renamed before an error is at its place, and is not renamed again
		err = errors.Join(err, durable.SyncDirs(slices.Collect(maps.Keys(dirs))...))
	}
	return dirs, err
}

// takeAway removes files whose content may be lost. Another process could adopt one, and would not be told of that: the kernel tells those who
// have the file open at the time.
func takeAway(batch []*staged) error {
	var errs []error
	for _, p := range batch {
		errs = append(errs, os.Remove(p.path))
	}
	return errors.Join(errs...)
}

// replaced are the files that came in the place of some of a batch while it was published, and were left out of it.
func (s *Staging) replaced(batch []*staged) (list []*staged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range batch {
		if f := s.files[p.final]; f != nil {
			list = append(list, f)
		}
	}
	return list
}

// batch are the files that are staged at this moment, as they were committed.
func (s *Staging) batch() []*staged {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := make([]*staged, len(s.order))
	for i, final := range s.order {
		batch[i] = s.files[final]
	}
	return batch
}

// blobs describes those of the files that are blobs.
func (s *Staging) blobs(batch []*staged) (ds []ocispec.Descriptor) {
	dir := filepath.Join(s.root, "images", ocispec.ImageBlobsDir, "sha256")
	for _, p := range batch {
		if filepath.Dir(p.final) == dir {
			ds = append(ds, ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(p.final))})
		}
	}
	return ds
}

// rename puts files at their places and returns the directories that have to be synced, also with an error. One in whose place another file
// has come is left out.
func (s *Staging) rename(batch []*staged) (map[string]bool, error) {
	dirs := map[string]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.forget()
	for i, p := range batch {
		if s.files[p.final] != p {
			continue
		}
		if err := makeDirs(filepath.Dir(p.final), dirs); err != nil {
			return dirs, err
		}
		if err := durable.Move(p.path, p.final); err != nil {
			return dirs, err
		}
		s.drop(p.final)
		if i == 0 {
			if err := failpoint.At("image.publish.amid-rename"); err != nil {
				return dirs, err
			}
		}
	}
	return dirs, nil
}

// makeDirs makes dir and its parents and notes which directories have changed, dir included.
func makeDirs(dir string, changed map[string]bool) error {
	if changed[dir] {
		return nil
	}
	changed[dir] = true
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		changed[filepath.Dir(dir)] = true
		return nil
	case errors.Is(err, fs.ErrExist):
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeDirs(filepath.Dir(dir), changed); err != nil {
		return err
	}
	changed[filepath.Dir(dir)] = true
	if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
