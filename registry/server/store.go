package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// staleUpload is how long an upload may rest before the server removes it, at its start or while it runs.
const staleUpload = 7 * 24 * time.Hour

// A store keeps repositories in a directory that is an image layout with more beside it:
//
//	images/blobs/sha256/<hex>                    content, once
//	repositories/<name>/_blobs/<hex>             hard link to it: the repository has it
//	repositories/<name>/_manifests/<hex>         its descriptor, if it is a manifest
//	repositories/<name>/_tags/<tag>              the digest that a tag names
//	repositories/<name>/_referrers/<hex>/<hex>   descriptor of a manifest about the first one
//	repositories/<name>/_uploads/<id>            what has arrived of an upload
type store struct {
	root   string
	layout *image.Layout

	// Writing a link, or a record of a manifest, needs what it names not to be given up meanwhile.
	mu sync.RWMutex
}

func openStore(root string) (*store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(root, "version")); err == nil {
		return nil, fmt.Errorf("registry %s: is a state directory of forge: give the registry a directory of its own", root)
	}
	if err := os.MkdirAll(filepath.Join(root, "repositories"), 0o700); err != nil {
		return nil, err
	}
	staging, err := image.OpenStaging(root)
	if err != nil {
		return nil, err
	}
	if err := staging.Own(); errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("registry %s: is served by another process: stop that first", root)
	} else if err != nil {
		return nil, err
	}
	s := &store{root: root}
	if s.layout, err = image.OpenLayout(root, staging); err == nil {
		err = s.migrate()
	}
	if err != nil {
		return nil, errors.Join(err, staging.Close())
	}
	return s, nil
}

func (s *store) close() error { return s.layout.Staging().Close() }

// migrate moves content from where earlier versions kept it.
func (s *store) migrate() error {
	old := filepath.Join(s.root, "blobs/sha256")
	contents, err := os.ReadDir(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range contents {
		path := filepath.Join(old, e.Name())
		to := s.layout.BlobPath(digest.NewDigestFromEncoded(digest.SHA256, e.Name()))
		if to == "" {
			return fmt.Errorf("registry %s: %s is no blob: remove it", s.root, path)
		}
		if err := durable.Move(path, to); err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(old), os.Remove(filepath.Dir(old)))
}

// in is the path of something that a repository has. The parts are valid names: no dots, no slashes.
func (s *store) in(repo, kind string, parts ...string) string {
	return filepath.Join(append([]string{s.root, "repositories", repo, kind}, parts...)...)
}

func (s *store) blob(repo string, d digest.Digest) string { return s.in(repo, "_blobs", d.Encoded()) }

func (s *store) hasRepo(repo string) bool {
	for _, kind := range []string{"_manifests", "_blobs", "_uploads"} {
		if _, err := os.Stat(s.in(repo, kind)); err == nil {
			return true
		}
	}
	return false
}

// openBlob opens a blob of a repository; errBlobUnknown if it has none such.
func (s *store) openBlob(repo string, d digest.Digest) (*os.File, fs.FileInfo, error) {
	f, err := os.Open(s.blob(repo, d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errBlobUnknown.with(d.String())
	}
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, st, nil
}

// add gives a repository the content d, after push has staged it.
func (s *store) add(ctx context.Context, repo string, d digest.Digest, push func(context.Context) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.addLocked(ctx, repo, d, push)
}

func (s *store) addLocked(ctx context.Context, repo string, d digest.Digest, push func(context.Context) error) error {
	ctx = context.WithoutCancel(ctx) // what has arrived is kept, also if the client is gone
	if err := push(ctx); err != nil {
		return err
	}
	if err := s.layout.Publish(ctx); err != nil {
		return err
	}
	return s.linkLocked(s.layout.BlobPath(d), repo, d)
}

// mount gives a repository what another one has, and reports whether that had it.
func (s *store) mount(from, repo string, d digest.Digest) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err := s.linkLocked(s.blob(from, d), repo, d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (s *store) linkLocked(from, repo string, d digest.Digest) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	to := s.blob(repo, d)
	if err := s.mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// mkdir makes a directory of a repository, durably.
func (s *store) mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for p := filepath.Dir(dir); len(p) >= len(s.root); p = filepath.Dir(p) {
		if err := durable.SyncDir(p); err != nil {
			return err
		}
		if p == s.root {
			break
		}
	}
	return nil
}

// dropLocked takes a blob from a repository, and from the store if it was the last to have it. The caller holds mu for writing.
func (s *store) dropLocked(repo string, d digest.Digest) error {
	if err := os.Remove(s.blob(repo, d)); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(s.blob(repo, d))); err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(s.layout.BlobPath(d), &st); err != nil || st.Nlink > 1 {
		return nil // others have it
	}
	return os.Remove(s.layout.BlobPath(d))
}

// putRecord stores a small file under its name, whole and durable.
func (s *store) putRecord(path string, raw []byte) error {
	if err := s.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.WriteFile(path, raw, 0o600)
}

// manifest finds the descriptor of a manifest that a repository has, by tag or digest.
func (s *store) manifest(repo, what string) (d ocispec.Descriptor, err error) {
	dgst := digest.Digest(what)
	if !strings.Contains(what, ":") {
		raw, err := readRecord(s.in(repo, "_tags", what))
		if errors.Is(err, fs.ErrNotExist) {
			if !s.hasRepo(repo) {
				return d, errNameUnknown.with(repo)
			}
			return d, errManifestUnknown.with(what)
		}
		if err != nil {
			return d, err
		}
		dgst = digest.Digest(strings.TrimSpace(string(raw)))
	}
	if err := checkDigest(string(dgst)); err != nil {
		return d, err
	}
	raw, err := readRecord(s.in(repo, "_manifests", dgst.Encoded()))
	if errors.Is(err, fs.ErrNotExist) {
		return d, errManifestUnknown.with(what)
	}
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(raw, &d)
}

// readRecord reads a small file.
func readRecord(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest))
}

// names lists the records of a directory in order, leaving out what is being written.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			all = append(all, e.Name())
		}
	}
	return all, err
}
