package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// Prune deletes what is derived from layers that keep does not want: their indexes and unpacked trees. The caller
// holds the store's lock exclusively. Trees are only moved, to be deleted in the background. It returns the bytes of the
// indexes; trees are not measured.
func (s *Store) Prune(keep func(diffID digest.Digest) bool) (bytes int64, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		hex, _, _ := strings.Cut(strings.TrimSuffix(e.Name(), ".erofs"), "~") // as trees are named until they are durable
		if d := digest.NewDigestFromEncoded(digest.SHA256, hex); d.Validate() == nil && keep(d) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		if err := failpoint.At("snapshot.prune.before-remove"); err != nil {
			return bytes, err
		}
		if err := s.discard(filepath.Join(s.dir, e.Name())); err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// discard removes an index, or moves a tree to where it is deleted in the background. On a full disk it is deleted at once.
func (s *Store) discard(path string) error {
	if err := os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir, err := s.session.newDir(s.drafts())
	if err == nil {
		err = durable.Move(path, filepath.Join(dir, "tree"))
	}
	if err != nil {
		return removeTree(path)
	}
	s.reaper.do(func() error { return removeTree(dir) })
	return nil
}
