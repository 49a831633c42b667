package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
)

// Prune removes from the registry in the directory root, which nobody serves, the blobs that no manifest of a repository
// names, and reports the content that went with them. Uploads that may go on stay. If a manifest is damaged, nothing of its
// repository is removed, and Prune fails when it is done with the others.
func Prune(ctx context.Context, root string) (p image.Pruned, err error) {
	if _, err := os.Stat(filepath.Join(root, "repositories")); err != nil {
		return p, fmt.Errorf("%s: is not the directory of a registry: %w", root, err)
	}
	s, err := openStore(root)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	repos, err := s.repositories("_blobs")
	if err != nil {
		return p, err
	}
	var damaged error
	for _, repo := range repos {
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		if err := s.pruneRepository(ctx, repo, time.Now()); err != nil {
			damaged = errors.Join(damaged, fmt.Errorf("repository %s: %w", repo, err))
		}
	}
	p, err = s.sweep(ctx)
	return p, errors.Join(damaged, err)
}

// pruneRepository takes from a repository the blobs that none of its manifests names and that were put there before a time.
func (s *store) pruneRepository(ctx context.Context, repo string, before time.Time) error {
	manifests, err := names(s.in(repo, "_manifests"))
	if err != nil {
		return err
	}
	live := map[string]bool{}
	for _, hex := range manifests {
		d, err := s.manifest(repo, "sha256:"+hex)
		if err != nil {
			return err
		}
		doc, _, err := image.ReadDocument(ctx, s.layout, d)
		if err != nil {
			return err
		}
		live[hex] = true
		for _, child := range doc.Children() {
			live[child.Digest.Encoded()] = true
		}
	}
	blobs, err := names(s.in(repo, "_blobs"))
	if err != nil {
		return err
	}
	for _, hex := range blobs {
		if live[hex] {
			continue
		}
		if at, err := linked(s.in(repo, "_blobs", hex)); err != nil || at.After(before) {
			continue
		}
		if err := os.Remove(s.in(repo, "_blobs", hex)); err != nil {
			return err
		}
	}
	return durable.SyncDir(s.in(repo, "_blobs"))
}

// linked is when a file was last linked to, which is when a repository last got it.
func linked(path string) (time.Time, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Time{}, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix()), nil
	}
	return info.ModTime(), nil
}

// sweep removes what crashes have left: files that were being written, uploads that nobody will finish, and content that no
// repository has got yet or has any more.
func (s *store) sweep(ctx context.Context) (p image.Pruned, err error) {
	var had []ocispec.Descriptor
	err = filepath.WalkDir(filepath.Join(s.root, "repositories"), func(path string, e fs.DirEntry, err error) error {
		kind := filepath.Base(filepath.Dir(path))
		switch {
		case err != nil || e.IsDir():
			return err
		case kind == "_blobs": // the many, of which none is ever half-made
			had = append(had, ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.SHA256, e.Name())})
			return nil
		case durable.Temporary(e.Name()):
			return os.Remove(path)
		case kind != "_uploads":
			return nil
		}
		st, err := e.Info()
		if err == nil && time.Since(st.ModTime()) > staleUpload {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		return p, err
	}
	if p, err = s.layout.Prune(ctx, image.PruneOptions{Keep: had}); err != nil {
		return p, err
	}
	return p, s.layout.EmptyTrash()
}

// repositories lists the repositories that have a directory of a kind, in no order.
func (s *store) repositories(kind string) (repos []string, err error) {
	base := filepath.Join(s.root, "repositories")
	err = filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), "_") {
			return err
		}
		if e.Name() == kind {
			name, err := filepath.Rel(base, filepath.Dir(path))
			if err != nil {
				return err
			}
			repos = append(repos, name)
		}
		return fs.SkipDir
	})
	return repos, err
}
