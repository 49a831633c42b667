package mounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

// The types of what is stored.
const (
	ArtifactType = "application/vnd.forge.mount.v1"
	tableType    = "application/vnd.forge.mount.table.v1+zstd"
	packType     = "application/vnd.forge.pack.v1"
)

// Annotations of a manifest, for people and for who prunes.
const (
	annotationID        = "dev.forge.mount.id"
	annotationPlatform  = "dev.forge.mount.platform"
	annotationSize      = "dev.forge.mount.size"      // of the tar, in bytes
	annotationForgotten = "dev.forge.mount.forgotten" // the name stands for nothing any more
	annotationScope     = "dev.forge.cache.scope"
	annotationSignature = "dev.forge.mount.signature" // of the table's digest
)

// A Version is one directory as it is kept.
type Version struct {
	Written time.Time // zero if nobody said
	Scope   string    // that it was written to

	ours  bool // signed by who would write it anew, if he signs
	tag   string
	packs []ocispec.Descriptor
	table *table
}

// Size is the size of the directory's tar in bytes.
func (v *Version) Size() int64 { return v.table.size }

// errDamaged is of a version that nobody can use, and that the next save replaces.
var errDamaged = errors.New("what is kept is damaged")

// damaged is errDamaged of a tag, if an error says so: that of content which does not match its digest.
func damaged(tag string, err error) error {
	if errors.Is(err, image.ErrMismatch) {
		return fmt.Errorf("%s: %w: %w", tag, errDamaged, err)
	}
	return err
}

// manifest reads what a tag stands for. It is an error that is fs.ErrNotExist if that was forgotten.
func (s *Shelf) manifest(ctx context.Context, tag string) (*image.Document, error) {
	d, err := s.Place.Read.Resolve(ctx, s.tagged(tag))
	if err != nil {
		return nil, err
	}
	raw, err := image.ReadSmall(ctx, s.Place.Read, d)
	if err != nil {
		return nil, damaged(tag, err)
	}
	doc, err := image.ParseDocument(raw, d.MediaType)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", tag, errDamaged, err)
	case doc.IsIndex() || doc.ArtifactType != ArtifactType || doc.Config.MediaType != tableType:
		return nil, fmt.Errorf("%s: %w: it is not a cache mount of forge", tag, errDamaged)
	case doc.Annotations[annotationForgotten] != "":
		return nil, fmt.Errorf("%s: was forgotten: %w", tag, fs.ErrNotExist)
	}
	return doc, nil
}

// read reads a version by its tag.
func (s *Shelf) read(ctx context.Context, tag string) (*Version, error) {
	doc, err := s.manifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	if err := s.check(s.Trust, doc, tag); err != nil {
		return nil, err
	}
	raw, err := image.ReadSmall(ctx, s.Place.Read, doc.Config)
	if err != nil {
		return nil, damaged(tag, err)
	}
	t, err := parseTable(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: table: %w", tag, errDamaged, err)
	}
	if len(t.packs) != len(doc.Layers) {
		return nil, fmt.Errorf("%s: %w: the table has %d packs, the manifest %d", tag, errDamaged, len(t.packs), len(doc.Layers))
	}
	for i, d := range doc.Layers {
		if d.Digest != t.packs[i].digest || d.Size != t.packs[i].size {
			return nil, fmt.Errorf("%s: %w: pack %d is not the same in table and manifest", tag, errDamaged, i)
		}
	}
	v := &Version{Scope: doc.Annotations[annotationScope], tag: tag, packs: doc.Layers, table: t}
	v.ours = s.Key == nil || s.check(remote.Trust{}.With(s.Key), doc, tag) == nil
	if when, err := time.Parse(time.RFC3339, doc.Annotations[ocispec.AnnotationCreated]); err == nil {
		v.Written = when
	}
	return v, nil
}

// check fails unless one of the keys has signed a manifest as one of a mount, whose name the tag begins with.
func (s *Shelf) check(trust remote.Trust, doc *image.Document, tag string) error {
	scope := doc.Annotations[annotationScope]
	return trust.Check(s.Place, scope, mountOf(tag), doc.Config.Digest.String(), doc.Annotations[annotationSignature])
}

// write stores a version, whose packs are stored, under the names of a mount.
func (s *Shelf) write(ctx context.Context, m Mount, t *table) error {
	return s.put(ctx, []string{m.exact(s.Write), m.tag(s.Write)}, t, map[string]string{
		annotationID: m.ID, annotationScope: s.Write, annotationPlatform: m.Platform, annotationSize: strconv.FormatInt(t.size, 10),
	})
}

// put stores a table under tags, those that are not empty.
func (s *Shelf) put(ctx context.Context, tags []string, t *table, annotations map[string]string) error {
	raw, err := t.marshal()
	if err != nil {
		return err
	}
	config := ocispec.Descriptor{MediaType: tableType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if _, err := s.Place.Write.Push(ctx, config, image.Bytes(raw)); err != nil {
		return err
	}
	if s.Key != nil {
		annotations[annotationSignature] = s.Key.Sign(s.Place, annotations[annotationScope], mountOf(tags[len(tags)-1]), config.Digest.String())
	}
	annotations[ocispec.AnnotationCreated] = time.Now().UTC().Format(time.RFC3339)
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config: config, Layers: []ocispec.Descriptor{}, Annotations: annotations,
	}
	for _, pack := range t.packs {
		manifest.Layers = append(manifest.Layers, pack.descriptor())
	}
	doc, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(doc), Size: int64(len(doc))}
	var errs []error
	for _, tag := range tags {
		if tag != "" {
			errs = append(errs, s.Place.Write.PushManifest(ctx, s.tagged(tag), d, doc))
		}
	}
	return errors.Join(errs...)
}
