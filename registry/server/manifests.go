package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
)

// maxManifest bounds a manifest, in bytes.
const maxManifest = image.MaxManifestSize

func (s *Server) getManifest(w http.ResponseWriter, r *http.Request, t target) error {
	if !validReference(t.what) {
		return errManifestUnknown.with(t.what)
	}
	d, err := s.store.manifest(t.repo, t.what)
	if err != nil {
		return err
	}
	f, st, err := s.store.openBlob(t.repo, d.Digest)
	if err != nil {
		return errManifestUnknown.with(t.what)
	}
	defer f.Close()
	w.Header().Set("Content-Type", d.MediaType)
	serve(w, r, f, st, d.Digest.String())
	return nil
}

func validReference(s string) bool { return validTag(s) || checkDigest(s) == nil }

func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, t target) error {
	if !validReference(t.what) {
		return errTagInvalid.with(t.what)
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
	if err != nil {
		return errUploadBroken
	}
	if len(raw) > maxManifest {
		return errManifestTooBig
	}
	d := ocispec.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	isTag := validTag(t.what)
	if !isTag && t.what != d.Digest.String() {
		return errDigestInvalid.with("content has " + d.Digest.String())
	}
	doc, err := parseManifest(r.Header.Get("Content-Type"), raw)
	if err != nil {
		return errManifestInvalid.with(err.Error())
	}
	d.MediaType = doc.MediaType
	tag := ""
	if isTag {
		tag = t.what
	}
	if err := s.storeManifest(r.Context(), t.repo, tag, d, doc, raw); err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+t.repo+"/manifests/"+d.Digest.String())
	w.Header().Set("Docker-Content-Digest", d.Digest.String())
	if doc.Subject != nil {
		w.Header().Set("OCI-Subject", doc.Subject.Digest.String())
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// parseManifest reads a manifest that the request says to be of contentType; "" leaves that to the manifest itself.
func parseManifest(contentType string, raw []byte) (*image.Document, error) {
	if contentType == "" {
		return image.ParseDocument(raw, "")
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("Content-Type %s: %w", contentType, err)
	}
	return image.ParseDocument(raw, mediaType)
}

// checkChildren makes sure that the repository has all that the manifest names, so that what is listed can be pulled.
func (s *Server) checkChildren(repo string, doc *image.Document) error {
	for _, d := range doc.Children() {
		if image.IsForeign(d.MediaType) {
			continue
		}
		path := s.store.blob(repo, d.Digest)
		if image.IsDocument(d.MediaType) {
			path = s.store.in(repo, "_manifests", d.Digest.Encoded())
		}
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return errManifestBlob.with(d.Digest.String())
		}
		if err != nil {
			return err
		}
		if !image.IsDocument(d.MediaType) && st.Size() != d.Size {
			return errManifestInvalid.with("size of " + d.Digest.String())
		}
	}
	return nil
}

// maxRecord bounds the record of a manifest about another one, in bytes: its annotations, mostly.
const maxRecord = 256 << 10

// referrerRecord is what lists of referrers say of a manifest; nil if it is about no other.
func referrerRecord(d ocispec.Descriptor, doc *image.Document) ([]byte, error) {
	if doc.Subject == nil {
		return nil, nil
	}
	if err := checkDigest(doc.Subject.Digest.String()); err != nil {
		return nil, errManifestInvalid.with("subject: " + err.Error())
	}
	d.ArtifactType, d.Annotations = cmp.Or(doc.ArtifactType, doc.Config.MediaType), doc.Annotations
	record, err := marshal(d)
	if err == nil && len(record) > maxRecord {
		return nil, errAnnotationsTooBig
	}
	return record, err
}

// storeManifest stores content, then the records that make it visible, under a tag unless that is "". What they name stays meanwhile.
func (s *Server) storeManifest(ctx context.Context, repo, tag string, d ocispec.Descriptor, doc *image.Document, raw []byte) error {
	about, err := referrerRecord(d, doc)
	if err != nil {
		return err
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	if err := s.checkChildren(repo, doc); err != nil {
		return err
	}
	err = s.store.addLocked(ctx, repo, d.Digest, func(ctx context.Context) error {
		_, err := s.store.layout.Push(ctx, d, image.Bytes(raw))
		return err
	})
	if err != nil {
		return err
	}
	if about != nil {
		if err := s.store.putRecord(s.store.in(repo, "_referrers", doc.Subject.Digest.Encoded(), d.Digest.Encoded()), about); err != nil {
			return err
		}
	}
	record, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := s.store.putRecord(s.store.in(repo, "_manifests", d.Digest.Encoded()), record); err != nil || tag == "" {
		return err
	}
	return s.store.putRecord(s.store.in(repo, "_tags", tag), []byte(d.Digest.String()+"\n"))
}

// deleteManifest removes a tag, or a manifest with all its tags.
func (s *Server) deleteManifest(w http.ResponseWriter, _ *http.Request, t target) error {
	if !validReference(t.what) {
		return errManifestUnknown.with(t.what)
	}
	d, err := s.store.manifest(t.repo, t.what)
	if err != nil {
		return err
	}
	if validTag(t.what) {
		err = removeRecord(s.store.in(t.repo, "_tags", t.what))
	} else {
		err = s.removeManifest(t.repo, d)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) removeManifest(repo string, d ocispec.Descriptor) error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	tags, err := names(s.store.in(repo, "_tags"))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		path := s.store.in(repo, "_tags", tag)
		if at, err := s.store.manifest(repo, tag); err == nil && at.Digest == d.Digest {
			if err := removeRecord(path); err != nil {
				return err
			}
		}
	}
	var doc struct{ Subject *ocispec.Descriptor }
	if f, _, err := s.store.openBlob(repo, d.Digest); err == nil {
		err = json.NewDecoder(f).Decode(&doc)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if doc.Subject != nil && checkDigest(doc.Subject.Digest.String()) == nil {
		if err := removeRecord(s.store.in(repo, "_referrers", doc.Subject.Digest.Encoded(), d.Digest.Encoded())); err != nil {
			return err
		}
	}
	if err := removeRecord(s.store.in(repo, "_manifests", d.Digest.Encoded())); err != nil {
		return err
	}
	if err := s.store.dropLocked(repo, d.Digest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeRecord removes a small file durably; that it is gone already is no error.
func removeRecord(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
