package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
)

const (
	maxTries   = 8                      // of writing an index that others write, too
	firstPause = 50 * time.Millisecond  // at least, before it is looked whether the index has stayed
	pauseRange = 150 * time.Millisecond // and at most how much more, the first time; four times that after each race that was lost
	maxPause   = 1500 * time.Millisecond
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
	plain  bool // the registry takes only what looks like an image
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

// ErrBusy means that others write a scope all the time, and that what was to be kept may not have stayed.
var ErrBusy = errors.New("others write it all the time")

// enter puts segments into the index, before what is in it. seen is the index as it was read last; nil if there was none.
func (w *writer) enter(ctx context.Context, seen *index, segments []segment) (*index, error) {
	own := segments
	for try := range maxTries {
		start := time.Now()
		now, err := w.current(ctx, seen)
		if err != nil {
			return nil, err
		}
		if try > 0 && now != nil && (now.digest == seen.digest || holds(now, own)) {
			if now.listed && now.digest == seen.digest {
				now.listed = false
				if err := w.putIndex(ctx, now, w.tag); err != nil {
					now.listed = true
				}
			}
			w.remember(ctx, now)
			return now, nil
		}
		if err := failpoint.At("remote.before-index"); err != nil {
			return nil, err
		}
		var done bool
		if seen, own, done, err = w.put(ctx, now, segments); err != nil || done {
			return seen, err
		}
		// Another who read before this was written has written by then, unless it takes that one much longer than it took here.
		if err := sleep(ctx, max(firstPause, 2*time.Since(start))+rand.N(min(maxPause, pauseRange<<(2*try)))); err != nil {
			return nil, err
		}
	}
	return nil, ErrBusy
}

func holds(x *index, segments []segment) bool {
	for _, s := range segments {
		if !x.has(s.d.Digest) {
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// current is the index that the tag stands for now; nil if there is none. It is not read if it is the one that was seen.
func (w *writer) current(ctx context.Context, seen *index) (*index, error) {
	p := w.target.Place
	d, err := p.Write.Resolve(ctx, p.named(w.tag))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case seen != nil && d.Digest == seen.digest:
		return seen, nil
	}
	raw, err := image.ReadSmall(ctx, p.Write, d)
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(raw)
	if err == nil && x.scope != w.target.Name {
		err = &foreignError{fmt.Sprintf("the cache of another scope, %q", x.scope)}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.tag, err)
	}
	return x, nil
}

// remember has this machine know an index without asking for it.
func (w *writer) remember(ctx context.Context, x *index) {
	if raw, _, err := x.encode(); err == nil && w.cache.o.Memory != nil {
		_ = w.cache.o.Memory.Put(ctx, w.target.memoKey(w.tag), raw) // else it is asked for
	}
}

// put writes an index of segments and of what is in now. It returns the index as written, in which own stand for the segments; and
// whether nobody can replace it.
func (w *writer) put(ctx context.Context, now *index, segments []segment) (x *index, own []segment, done bool, err error) {
	x = &index{scope: w.target.Name, written: time.Now(), plain: w.plain, segments: segments}
	if now != nil {
		x.plain = x.plain || now.plain
		x.add(now.segments)
	}
	own = segments
	if w.crowded(x) {
		own = w.compact(ctx, x, DefaultRetention(), own)
		if err := w.catchUp(ctx, x, now); err != nil { // it takes a while
			return nil, nil, false, err
		}
	}
	created := now == nil && w.target.Place.Tags != nil
	x.listed = created // if the tag can be given only once, this stays
	if err = w.putIndex(ctx, x, w.tag); !errors.Is(err, image.ErrImmutable) {
		return x, own, false, err
	}
	x.listed = true
	return x, own, true, w.putIndex(ctx, x, listedTag(w.tag, time.Now()))
}

// catchUp adds to x what others have put into the index since it was read as seen.
func (w *writer) catchUp(ctx context.Context, x, seen *index) error {
	now, err := w.current(ctx, seen)
	if err != nil || now == nil || now == seen {
		return err
	}
	for _, s := range now.segments {
		if seen == nil || !seen.has(s.d.Digest) {
			x.add([]segment{s})
		}
	}
	return nil
}

// putIndex writes an index. Segments that the place has lost are left out.
func (w *writer) putIndex(ctx context.Context, x *index, tag string) error {
	p := w.target.Place
	for again := true; ; again = false {
		raw, d, err := x.encode()
		if err != nil {
			return err
		}
		if err = p.Write.PushManifest(ctx, p.named(tag), d, raw); err == nil {
			x.digest = d.Digest
			return nil
		}
		if !again || !errors.Is(err, image.ErrIncomplete) && !errors.Is(err, image.ErrRefused) {
			return err
		}
		var left []segment
		for _, s := range x.segments {
			if ok, err := p.Write.Exists(ctx, s.d); ok && err == nil {
				left = append(left, s)
			}
		}
		if len(left) == len(x.segments) {
			return err // it is something else that the place does not like
		}
		x.segments = left
	}
}
