package server

import (
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

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// staleUpload is how long an upload may rest before a start of the server removes it.
const staleUpload = 7 * 24 * time.Hour

// A store keeps repositories in a directory:
//
//	blobs/sha256/<hex>                           content, once
//	repositories/<name>/_blobs/<hex>             hard link to it: the repository has it
//	repositories/<name>/_manifests/<hex>         its descriptor, if it is a manifest
//	repositories/<name>/_tags/<tag>              the digest that a tag names
//	repositories/<name>/_referrers/<hex>/<hex>   descriptor of a manifest about the first one
//	repositories/<name>/_uploads/<id>            what has arrived of an upload
type store struct {
	root string
	lock *os.File

	// Writing a link needs the content not to be given up meanwhile.
	mu sync.RWMutex
}

func openStore(root string) (*store, error) {
	if err := os.MkdirAll(filepath.Join(root, "blobs/sha256"), 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, "repositories"), 0o700); err != nil {
		return nil, err
	}
	lock, err := flock.TryLock(filepath.Join(root, "lock"), flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) {
		return nil, fmt.Errorf("registry %s: is served by another process", root)
	}
	if err != nil {
		return nil, err
	}
	s := &store{root: root, lock: lock}
	if err := s.sweep(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *store) close() error { return s.lock.Close() }

// sweep removes what crashes have left: files that were being written, content that no repository has got yet, and uploads
// that nobody will finish.
func (s *store) sweep() error {
	err := filepath.WalkDir(filepath.Join(s.root, "repositories"), func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "_blobs": // the many, of which none is ever half-made
			return fs.SkipDir
		case e.IsDir():
			return nil
		case strings.HasPrefix(e.Name(), durable.Prefix):
			return os.Remove(path)
		case filepath.Base(filepath.Dir(path)) != "_uploads":
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		if time.Since(st.ModTime()) > staleUpload {
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	dir := filepath.Join(s.root, "blobs/sha256")
	contents, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range contents {
		path := filepath.Join(dir, e.Name())
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			return err
		}
		if st.Nlink == 1 {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) content(d digest.Digest) string {
	return filepath.Join(s.root, "blobs/sha256", d.Encoded())
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

// adopt makes a finished, synced file the content d and gives it to a repository. The file is gone afterwards.
func (s *store) adopt(path, repo string, d digest.Digest) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := os.Stat(s.content(d)); err == nil {
		// The same bytes are here.
		if err := os.Remove(path); err != nil {
			return err
		}
	} else {
		if err := durable.Rename(path, s.content(d)); err != nil {
			return err
		}
	}
	return s.linkLocked(s.content(d), repo, d)
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

// drop takes a blob from a repository, and from the store if it was the last to have it.
func (s *store) drop(repo string, d digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(s.blob(repo, d)); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(s.blob(repo, d))); err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(s.content(d), &st); err != nil || st.Nlink > 1 {
		return nil // others have it
	}
	return os.Remove(s.content(d))
}

// putContent stores a small blob.
func (s *store) putContent(repo string, d digest.Digest, raw []byte) error {
	dir := s.in(repo, "_uploads")
	if err := s.mkdir(dir); err != nil {
		return err
	}
	tmp, err := writeTemp(dir, raw)
	if err != nil {
		return err
	}
	return s.adopt(tmp, repo, d)
}

// putRecord stores a small file under its name, whole and durable.
func (s *store) putRecord(path string, raw []byte) error {
	if err := s.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.WriteFile(path, raw, 0o600)
}

// writeTemp writes a synced file under a temporary name.
func writeTemp(dir string, raw []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, durable.Prefix)
	if err != nil {
		return "", err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
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
