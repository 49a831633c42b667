package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/server/pages"
)

var _ pages.Registry = (*store)(nil)

// Repositories implements pages.Registry.
func (s *store) Repositories() ([]string, error) {
	repos, err := s.repositories("_manifests")
	slices.Sort(repos)
	return repos, err
}

// missing makes what the protocol calls unknown fs.ErrNotExist.
func missing(err error) error {
	if e := (*apiError)(nil); errors.As(err, &e) && e.status == http.StatusNotFound {
		return fmt.Errorf("%w: %s", fs.ErrNotExist, e.detail)
	}
	return err
}

// Tags implements pages.Registry.
func (s *store) Tags(repo string) ([]pages.Tag, error) {
	if !validName(repo) || !s.hasRepo(repo) {
		return nil, fmt.Errorf("%w: repository %s", fs.ErrNotExist, repo)
	}
	tags, err := names(s.in(repo, "_tags"))
	if err != nil {
		return nil, err
	}
	all := make([]pages.Tag, 0, len(tags))
	for _, name := range tags {
		path := s.in(repo, "_tags", name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		raw, readErr := readRecord(path)
		if err = errors.Join(err, readErr); err != nil {
			return nil, err
		}
		all = append(all, pages.Tag{Name: name, Digest: digest.Digest(strings.TrimSpace(string(raw))), Pushed: info.ModTime()})
	}
	return all, nil
}

// Manifest implements pages.Registry.
func (s *store) Manifest(repo, reference string) (ocispec.Descriptor, error) {
	if !validName(repo) || !validReference(reference) {
		return ocispec.Descriptor{}, fmt.Errorf("%w: %s:%s", fs.ErrNotExist, repo, reference)
	}
	d, err := s.manifest(repo, reference)
	return d, missing(err)
}

// Referrers implements pages.Registry.
func (s *store) Referrers(repo string, d digest.Digest) (all []digest.Digest, err error) {
	hexes, err := names(s.in(repo, "_referrers", d.Encoded()))
	for _, hex := range hexes {
		all = append(all, digest.NewDigestFromEncoded(digest.SHA256, hex))
	}
	return all, err
}

// Content implements pages.Registry.
func (s *store) Content(repo string) image.Fetcher { return contents{s, repo} }

// A contents is what a repository holds.
type contents struct {
	store *store
	repo  string
}

// Fetch implements [image.Fetcher].
func (c contents) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := image.CheckOffset(d, offset); err != nil {
		return nil, err
	}
	f, _, err := c.store.openBlob(c.repo, d.Digest)
	if err != nil {
		return nil, missing(err)
	}
	_, err = f.Seek(offset, io.SeekStart)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
