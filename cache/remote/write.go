package remote

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
)

const (
	maxTries   = 8                      // of writing an index that others write, too
	firstPause = 300 * time.Millisecond // at least, before it is looked whether the index has stayed
	pauseRange = 150 * time.Millisecond // and at most how much more
	slowRead   = 100 * time.Millisecond // after which what was read may be old
)

// Save adds records to a target. Their layers are there, in the forms that are given by diffID; a record without one is left out. It
// returns how many records it has added.
//
// The order is: layers, table, segment, index; so that what an index names is there, wherever the writer dies. Registries have no
// compare-and-swap: after writing, the writer looks whether its segment has stayed, and writes again if another writer has replaced the
// index that it had read.
func (c *Cache) Save(ctx context.Context, t *Target, records []Record, forms map[digest.Digest]ocispec.Descriptor) (int, error) {
	if len(records) == 0 {
		return 0, nil
	}
	w := &writer{cache: c, target: t}
	shelf, err := c.shelfOf(ctx, t.Scope)
	if err != nil {
		return 0, err
	}
	w.tag = shelf.tag
	if shelf.index != nil {
		w.plain = shelf.index.plain
	}
	var segments []segment
	added := 0
	for _, part := range cut(withForms(records, forms)) {
		s, err := w.segment(ctx, part)
		if err != nil {
			return 0, err
		}
		segments = append(segments, s)
		added += len(part)
	}
	if added == 0 {
		return 0, nil
	}
	written, err := w.enter(ctx, shelf.index, segments)
	if written != nil {
		c.keepShelf(t.Scope, w.tag, written)
	}
	return added, err
}

// withForms are the records with their layers as the place has them.
func withForms(records []Record, forms map[digest.Digest]ocispec.Descriptor) []Record {
	var out []Record
	for _, r := range records {
		if !r.IsValue() {
			form, ok := forms[r.Layer.DiffID]
			if !ok {
				continue
			}
			r.Layer.Blob = ocispec.Descriptor{MediaType: form.MediaType, Digest: form.Digest, Size: form.Size}
		}
		out = append(out, r)
	}
	return out
}

// cut makes parts of records that a segment can hold.
func cut(records []Record) (parts [][]Record) {
	size, layers, from := 0, map[digest.Digest]bool{}, 0
	for i := range records {
		r := &records[i]
		more := recordSize + len(r.Value) + len(r.Name) + 8
		if !r.IsValue() && !layers[r.Layer.Blob.Digest] {
			more += blobSize
		}
		full := !r.IsValue() && !layers[r.Layer.Blob.Digest] && len(layers) == maxLayers
		if full || size+more > maxTable-headerSize-trailerSize {
			parts = append(parts, records[from:i])
			size, layers, from = 0, map[digest.Digest]bool{}, i
			more = recordSize + blobSize + len(r.Value) + len(r.Name) + 8
		}
		size += more
		if !r.IsValue() {
			layers[r.Layer.Blob.Digest] = true
		}
	}
	if from < len(records) {
		parts = append(parts, records[from:])
	}
	return parts
}

// A writer writes to one target.
type writer struct {
	cache  *Cache
	target *Target
	tag    string
	plain  bool       // the registry takes only what looks like an image
	crowd  bool       // several others write now
	keep   *Retention // of a prune; nil if it is not one
}

// segment writes records as a segment, which nothing names yet.
func (w *writer) segment(ctx context.Context, records []Record) (segment, error) {
	raw, err := encodeTable(records, w.cache.o.Key, w.target.bound())
	if err != nil {
		return segment{}, err
	}
	frame, err := compress(raw)
	if err != nil {
		return segment{}, err
	}
	if err := failpoint.At("remote.before-table"); err != nil {
		return segment{}, err
	}
	table := ocispec.Descriptor{MediaType: typeTable, Digest: digest.FromBytes(frame), Size: int64(len(frame))}
	if _, err := w.target.Place.Write.Push(ctx, table, image.Bytes(frame)); err != nil {
		return segment{}, err
	}
	s := segment{table: table, inline: frame, records: len(records)}
	for _, l := range blobs(records) {
		s.layers++
		s.bytes += l.Blob.Size
	}
	if len(frame) > maxInline {
		s.inline = nil
	}
	if w.cache.o.Memory != nil {
		_ = w.cache.o.Memory.Put(ctx, memoOf(table), frame)
	}
	if err := failpoint.At("remote.before-segment"); err != nil {
		return segment{}, err
	}
	s.d, err = w.manifest(ctx, records, table)
	if !w.plain && errors.Is(err, image.ErrRefused) {
		w.plain = true
		s.d, err = w.manifest(ctx, records, table)
	}
	return s, err
}

// manifest writes the manifest of a segment.
func (w *writer) manifest(ctx context.Context, records []Record, table ocispec.Descriptor) (ocispec.Descriptor, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typeSegment, Config: table,
		Layers: []ocispec.Descriptor{}, // never null
	}
	var diffIDs []digest.Digest
	for _, l := range blobs(records) {
		m.Layers = append(m.Layers, l.Blob)
		diffIDs = append(diffIDs, l.DiffID)
	}
	if w.plain {
		table.MediaType = ocispec.MediaTypeImageLayerZstd
		m.ArtifactType, m.Layers, diffIDs = "", append(m.Layers, table), append(diffIDs, table.Digest)
		config, err := json.Marshal(ocispec.Image{
			Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
		})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
		if _, err := w.target.Place.Write.Push(ctx, m.Config, image.Bytes(config)); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return d, w.target.Place.Write.PushManifest(ctx, image.Reference{}, d, raw)
}
