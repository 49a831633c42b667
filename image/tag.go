package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
)

// TagAll is [Layout.Tag] for many images at once, in the time that a few take. Their IDs are found out here. A Remote of "" leaves
// what is known of that, as long as the name stays with the image.
func (l *Layout) TagAll(ctx context.Context, images ...Named) error {
	for _, n := range images {
		if err := CheckDescriptor(n.Descriptor); err != nil {
			return err
		}
	}
	synced, err := l.staging.publish(ctx)
	if err != nil {
		return err
	}
	ids, had := map[digest.Digest]digest.Digest{}, newSeen()
	var all, changed []Named
	for _, n := range images {
		d := n.Descriptor
		if _, ok := ids[d.Digest]; !ok {
			id, err := l.identify(ctx, n, had)
			if err != nil {
				return fmt.Errorf("image %s: %w", n.displayName(), err)
			}
			ids[d.Digest] = id
		}
		// Only what makes the image be found is kept: a platform, annotations and data are the index's business.
		n.Descriptor = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
		n.ID = ids[d.Digest]
		if all = append(all, n); !same(l.recordPath(n.Reference, d.Digest), n) {
			changed = append(changed, n)
		}
	}
	// After the records were read: one that is written is durable, and in index.json, if there is no mark from then on.
	if _, err := os.Lstat(l.stale()); err == nil {
		changed = all
	}
	if len(changed) == 0 {
		return nil
	}
	if !synced[l.blobs()] {
		// A blob that was here already may have been renamed to its place by a process that died before it made that durable.
		if err := durable.SyncDir(l.blobs()); err != nil {
			return err
		}
	}
	return l.withNames(ctx, func() error { return l.tag(ctx, changed) })
}

func same(path string, n Named) bool {
	old, err := readRecord(path)
	return err == nil && old.ID == n.ID && old.Descriptor.Digest == n.Descriptor.Digest &&
		old.Descriptor.Size == n.Descriptor.Size && old.Descriptor.MediaType == n.Descriptor.MediaType &&
		old.Away == n.Away && (n.Remote == "" || old.Remote == n.Remote)
}

// tag writes the records of images. The caller holds the lock of names/.
func (l *Layout) tag(ctx context.Context, images []Named) error {
	all, _, err := l.records()
	if err != nil {
		return err
	}
	c := tagging{layout: l, records: map[string]Named{}, holders: map[digest.Digest]int{}}
	for _, n := range all {
		c.records[l.recordPath(n.Reference, n.Descriptor.Digest)] = n
		c.holders[n.Descriptor.Digest]++
	}
	for _, n := range images {
		c.add(n)
	}
	if len(c.nameless)+len(c.named) == 0 {
		return nil
	}
	if err := l.markStale(); err != nil {
		return err
	}
	if err := l.writeRecords(ctx, &c); err != nil {
		return err
	}
	for _, path := range c.obsolete() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(c.nameless)+len(c.named) > fewRecords {
		return l.writeIndex()
	}
	return l.unmarkStale()
}

// A tagging finds out which records have to be written.
type tagging struct {
	layout   *Layout
	records  map[string]Named // by path, as they will be
	holders  map[digest.Digest]int
	nameless []Named // images that lose their last name
	named    []Named
}

func (c *tagging) add(n Named) {
	d := n.Descriptor.Digest
	if n.Reference == (Reference{}) && c.holders[d] > 0 {
		return // it has a name, or is recorded
	}
	path := c.layout.recordPath(n.Reference, d)
	old, had := c.records[path]
	switch {
	case !had:
		c.holders[d]++
	case old.Descriptor.Digest != d:
		if c.holders[old.Descriptor.Digest] == 1 {
			c.nameless = append(c.nameless, Named{Descriptor: old.Descriptor, ID: old.ID, Away: old.Away})
		} else {
			c.holders[old.Descriptor.Digest]--
		}
		c.holders[d]++
	case n.Remote == "":
		n.Remote = old.Remote
	}
	c.records[path] = n
	c.named = append(c.named, n)
}

// obsolete are the records without a name of images that have one now.
func (c *tagging) obsolete() (paths []string) {
	for _, n := range c.named {
		if n.Reference == (Reference{}) || c.records[c.layout.recordPath(n.Reference, n.Descriptor.Digest)].Descriptor.Digest != n.Descriptor.Digest {
			continue // it has no name, or has lost it to a later one of images
		}
		paths = append(paths, c.layout.recordPath(Reference{}, n.Descriptor.Digest))
	}
	return paths
}

// after is what index.json says of the records as they will be.
func (c *tagging) after() ocispec.Index {
	records := maps.Clone(c.records)
	for _, n := range c.nameless {
		records[c.layout.recordPath(n.Reference, n.Descriptor.Digest)] = n
	}
	for _, path := range c.obsolete() {
		delete(records, path)
	}
	return indexOf(slices.Collect(maps.Values(records)))
}

// fewRecords are written along with index.json.
const fewRecords = 4

// writeRecords writes records durably, in their order; if they are few, index.json too. The caller holds the lock of names/, which a prune that has
// the store's waits for: so they are not published, since others of this process may publish blobs at the time, which waits for the store's.
func (l *Layout) writeRecords(ctx context.Context, c *tagging) error {
	var files []replacement
	for _, n := range append(c.nameless, c.named...) {
		f, err := l.recordOf(n)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	if len(files) > fewRecords {
		for part := range slices.Chunk(files, few) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := l.staging.writeDurably("image.tag", part...); err != nil {
				return err
			}
		}
		return nil
	}
	data, err := json.Marshal(c.after())
	if err != nil {
		return err
	}
	return l.staging.writeDurably("image.tag", append(files, replacement{l.index(), data})...)
}

// recordOf is the record of a name.
func (l *Layout) recordOf(n Named) (replacement, error) {
	r := record{Name: n.Reference.String(), ID: n.ID, Descriptor: n.Descriptor, Remote: n.Remote, Away: n.Away}
	r.Sum = r.sum()
	data, err := json.Marshal(r)
	return replacement{l.recordPath(n.Reference, n.Descriptor.Digest), data}, err
}

// Reidentify finds out anew what the ID of an index is under all its names, after images of it have gone. It works on a full disk: the ID is then
// that of an image that is gone.
func (l *Layout) Reidentify(ctx context.Context, d digest.Digest) error {
	return l.withNames(ctx, func() error {
		all, _, err := l.records()
		if err != nil {
			return err
		}
		var files []replacement
		for _, n := range all {
			if n.Descriptor.Digest != d {
				continue
			}
			img, err := l.AnyImage(ctx, n.Descriptor)
			if err != nil || img.ID() == n.ID {
				continue // what is in pieces is fsck's business
			}
			n.ID = img.ID()
			f, err := l.recordOf(n)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		if len(files) == 0 {
			return nil
		}
		if err := l.staging.writeDurably("image.tag", files...); !isFull(err) {
			return err
		}
		return nil
	})
}

// Names reports whether a name stands for an image.
func (l *Layout) Names(r Reference, d digest.Digest) bool {
	n, err := readRecord(l.recordPath(r, d))
	return err == nil && n.Descriptor.Digest == d
}

// Pushed remembers that the repository of the name r has the image d as remote. If r stands for another image by now, or
// for none, there is nothing to remember.
func (l *Layout) Pushed(ctx context.Context, r Reference, d ocispec.Descriptor, remote digest.Digest) error {
	n, err := readRecord(l.recordPath(r, ""))
	if errors.Is(err, fs.ErrNotExist) || err == nil && n.Descriptor.Digest != d.Digest {
		return nil
	}
	if err != nil {
		return err
	}
	return l.TagAll(ctx, Named{Reference: r, Descriptor: d, Remote: remote, Away: n.Away})
}
