package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
)

// NewArtifact writes the manifest of an artifact about subject: content of its own and no configuration (OCI image specification 1.1,
// "Guidelines for Artifact Usage"). Its configuration, [ocispec.DescriptorEmptyJSON], is to be pushed as well.
func NewArtifact(artifactType string, layers []ocispec.Descriptor, subject ocispec.Descriptor, annotations map[string]string) ([]byte, ocispec.Descriptor, error) {
	subject = ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	config := ocispec.DescriptorEmptyJSON
	config.Data = nil // registries of before OCI 1.1 do not know it
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: config, Layers: layers, Subject: &subject, Annotations: annotations,
	})
	return raw, describe(ocispec.MediaTypeImageManifest, raw), err
}

// A referrers is the content of a file in referrers/, which is called like the digest of the manifest that it is about.
type referrers struct {
	Manifests []ocispec.Descriptor `json:"manifests"`
	Sum       string               `json:"sum"` // of the record without it
}

func (r referrers) sum() string {
	r.Sum = ""
	return checksum(r)
}

// Attach stores a manifest about another, its subject, for as long as that one is here. Artifacts of the same type about the same
// subject are replaced. What it names is stored before, and all of it is durable when Attach returns.
func (l *Layout) Attach(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	doc, err := ParseDocument(raw, d.MediaType)
	if err != nil {
		return err
	}
	if doc.Subject == nil {
		return fmt.Errorf("%s: is about no other manifest", d.Digest)
	}
	if _, err := l.Push(ctx, d, Bytes(raw)); err != nil {
		return err
	}
	if err := l.Publish(ctx); err != nil {
		return err
	}
	d.ArtifactType, d.Annotations = doc.ArtifactType, doc.Annotations
	return l.withNames(ctx, func() error {
		list, err := l.Referrers(doc.Subject.Digest)
		if err != nil {
			return err
		}
		r := referrers{Manifests: append(slices.DeleteFunc(list, func(have ocispec.Descriptor) bool {
			return have.ArtifactType == d.ArtifactType && have.Annotations[PredicateAnnotation] == d.Annotations[PredicateAnnotation]
		}), d)}
		r.Sum = r.sum()
		data, err := json.Marshal(r)
		if err == nil {
			err = os.MkdirAll(l.referrersDir(), 0o700)
		}
		if err != nil {
			return err
		}
		return durable.WriteFile(l.referrersPath(doc.Subject.Digest), data, 0o600)
	})
}

// PredicateAnnotation says, of a statement of in-toto and of the manifest that holds one, which type its predicate has.
const PredicateAnnotation = "in-toto.io/predicate-type"

// Referrers lists the manifests that were attached to another.
func (l *Layout) Referrers(subject digest.Digest) ([]ocispec.Descriptor, error) {
	if err := CheckDigest(subject); err != nil {
		return nil, err
	}
	path := l.referrersPath(subject)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r referrers
	if err := json.Unmarshal(data, &r); err != nil || r.Sum != r.sum() {
		return nil, fmt.Errorf("%s: damaged list of attestations: remove it, and build the image again if they are needed", path)
	}
	for _, d := range r.Manifests {
		if err := CheckDescriptor(d); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return r.Manifests, nil
}

func (l *Layout) referrersDir() string { return filepath.Join(l.root, "referrers") }

func (l *Layout) referrersPath(subject digest.Digest) string {
	return filepath.Join(l.referrersDir(), subject.Encoded())
}

// pruneReferrers forgets what is about manifests that are not live.
func (l *Layout) pruneReferrers(live *reach) error {
	files, err := os.ReadDir(l.referrersDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if durable.Temporary(f.Name()) || live.blobs[digest.NewDigestFromEncoded(digest.SHA256, f.Name())] {
			continue
		}
		if err := os.Remove(filepath.Join(l.referrersDir(), f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
