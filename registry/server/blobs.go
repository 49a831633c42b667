package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
)

func checkDigest(s string) error {
	if err := image.CheckDigest(digest.Digest(s)); err != nil {
		return errDigestInvalid.with(err.Error())
	}
	return nil
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, t target) error {
	if err := checkDigest(t.what); err != nil {
		return err
	}
	f, st, err := s.store.openBlob(t.repo, digest.Digest(t.what))
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	serve(w, r, f, st, t.what)
	return nil
}

// serve answers with a file: in whole, in ranges, or that the client has it already.
func serve(w http.ResponseWriter, r *http.Request, f *os.File, st os.FileInfo, dgst string) {
	w.Header().Set("Docker-Content-Digest", dgst)
	w.Header().Set("ETag", `"`+dgst+`"`)
	http.ServeContent(w, r, "", st.ModTime(), f)
}

func (s *Server) deleteBlob(w http.ResponseWriter, _ *http.Request, t target) error {
	if err := checkDigest(t.what); err != nil {
		return err
	}
	if err := s.removeBlob(t.repo, digest.Digest(t.what)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// removeBlob takes a blob from a repository. A manifest is not removed as a blob: its records would name nothing.
func (s *Server) removeBlob(repo string, d digest.Digest) error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if _, err := os.Stat(s.store.in(repo, "_manifests", d.Encoded())); err == nil {
		return errIsManifest.with(d.String())
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := s.store.dropLocked(repo, d)
	if errors.Is(err, fs.ErrNotExist) {
		return errBlobUnknown.with(d.String())
	}
	return err
}

// created answers that a blob is there.
func created(w http.ResponseWriter, repo, dgst string) error {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+dgst)
	w.Header().Set("Docker-Content-Digest", dgst)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func uploadLocation(repo, id string) string { return fmt.Sprintf("/v2/%s/blobs/uploads/%s", repo, id) }

// sum is the digest of a hash's state.
func sum(h interface{ Sum([]byte) []byte }) digest.Digest {
	return digest.NewDigestFromBytes(digest.SHA256, h.Sum(make([]byte, 0, sha256.Size)))
}
