package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
	"github.com/forge-build/forge/source"
)

// A FsckReport says what a check found.
type FsckReport struct {
	Problems []string // each names the file, what is wrong and which images it touches
	Dropped  []string // images that a repair could not make whole
	Images   int      // names
}

// Fsck looks for damage: whatever is missing, has a wrong size or cannot be read, and, if deep, all bytes that do not have
// the digest that names them. Repair drops what is damaged and pulls again what can be pulled; it needs the store for
// itself (Options.Exclusive).
func (h *Home) Fsck(ctx context.Context, deep, repair bool) (r FsckReport, err error) {
	problems, err := h.Layout.Fsck(ctx, image.FsckOptions{Deep: deep})
	if err != nil {
		return r, err
	}
	for _, p := range problems {
		line := p.String()
		var names []string
		for _, n := range p.Images {
			names = append(names, nameOrDigest(n))
		}
		if len(names) > 0 {
			line += "; images: " + strings.Join(names, " ")
		}
		r.Problems = append(r.Problems, line)
	}
	store, err := h.Snapshots()
	if err != nil {
		return r, err
	}
	indexes, err := store.Check(ctx, deep, repair)
	if err != nil {
		return r, err
	}
	r.Problems = append(r.Problems, indexes...)
	contexts, err := h.checkContexts(repair)
	if err != nil {
		return r, err
	}
	r.Problems = append(r.Problems, contexts...)
	entries, err := h.checkCache(repair)
	if err != nil {
		return r, err
	}
	r.Problems = append(r.Problems, entries...)
	if repair {
		if r.Dropped, err = h.repair(ctx, problems); err != nil {
			return r, err
		}
	}
	named, err := h.Layout.List(ctx)
	r.Images = len(named)
	return r, err
}

// repair drops what is damaged, and pulls again what can be pulled.
func (h *Home) repair(ctx context.Context, problems []image.Problem) (dropped []string, err error) {
	lost, err := h.Layout.Repair(ctx, problems, func(ctx context.Context, n image.Named) error {
		_, err := h.Pull(ctx, n.Reference.String(), PullOptions{})
		return err
	})
	for _, n := range lost {
		dropped = append(dropped, nameOrDigest(n))
	}
	return dropped, err
}

// checkCache names cache entries that cannot be read. A repair forgets them.
func (h *Home) checkCache(repair bool) (problems []string, err error) {
	records, err := h.Cache.List()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if !r.Damaged {
			continue
		}
		problems = append(problems, fmt.Sprintf("cache/%s: cannot be read", r.Key))
		if repair {
			if err := h.Cache.Remove(r.Key); err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}

// checkContexts names the stat caches of build contexts that cannot be read. A repair removes them.
func (h *Home) checkContexts(repair bool) (problems []string, err error) {
	files, err := source.DamagedStats(filepath.Join(h.Dir, "contexts"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		problems = append(problems, file+": damaged index of a build context")
		if repair {
			if err := os.RemoveAll(file); err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}

// PruneOptions say what to remove besides litter, which always goes.
type PruneOptions struct {
	All     bool          // all images, and the whole cache
	Until   time.Duration // only what was not used for so long; 0 is no bound
	MaxSize int64         // of the cache's layers, in bytes: the most recently used stay; negative keeps all that has a layer
}

// A PruneReport says what was removed.
type PruneReport struct {
	Removed []string
	Bytes   int64 // that the file system has got back
}

// Prune removes what nothing needs. It needs the store for itself (Options.Exclusive).
func (h *Home) Prune(ctx context.Context, o PruneOptions) (r PruneReport, err error) {
	if o.All && o.Until == 0 {
		if err := h.dropImages(ctx, &r); err != nil {
			return r, err
		}
	}
	if err := h.pruneCache(ctx, o, &r); err != nil {
		return r, err
	}
	records, err := h.Cache.List()
	if err != nil {
		return r, err
	}
	pruned, err := h.Layout.Prune(ctx, image.PruneOptions{Keep: heldBy(records), Nameless: o.Until == 0})
	r.Bytes += pruned.Bytes
	for _, n := range pruned.Images {
		r.Removed = append(r.Removed, "image "+nameOrDigest(n))
	}
	for _, d := range pruned.Blobs {
		r.Removed = append(r.Removed, "blob "+d.String())
	}
	if err != nil {
		return r, err
	}
	return r, h.pruneDerived(ctx, o, &r)
}

// dropImages removes the names of all images.
func (h *Home) dropImages(ctx context.Context, r *PruneReport) error {
	named, err := h.Layout.List(ctx)
	if err != nil {
		return err
	}
	for _, n := range named {
		err := h.Layout.Remove(ctx, n.Descriptor.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			continue // went with another name of its
		}
		if err != nil {
			return err
		}
		r.Removed = append(r.Removed, "image "+nameOrDigest(n))
	}
	return nil
}

// pruneCache forgets entries: those without a layer, and what the options say.
func (h *Home) pruneCache(ctx context.Context, o PruneOptions, r *PruneReport) error {
	if err := errors.Join(h.Cache.Sweep(), h.pruneMemos(o)); err != nil {
		return err
	}
	var policy cache.PrunePolicy
	switch {
	case o.Until > 0:
		policy.Before = time.Now().Add(-o.Until)
		policy.MaxSize = max(0, o.MaxSize)
	case o.MaxSize > 0:
		policy.MaxSize = o.MaxSize
	case !o.All && o.MaxSize < 0:
		return h.forgetGone(ctx)
	}
	gone, err := h.Cache.Prune(policy)
	if len(gone) > 0 {
		r.Removed = append(r.Removed, fmt.Sprintf("%d cache entries", len(gone)))
	}
	return errors.Join(err, h.forgetGone(ctx))
}

// memosFor is how long digests and versions that nobody asks for are kept.
const memosFor = 30 * 24 * time.Hour

// pruneMemos forgets digests of trees and versions of downloads: all that the options do not keep, or old ones. They hold no
// layers, so that their number is all that matters.
func (h *Home) pruneMemos(o PruneOptions) error {
	age := memosFor
	if o.All || o.Until > 0 {
		age = o.Until
	}
	before := time.Now().Add(-age)
	_, err := h.digests.PruneUnused(before)
	_, downErr := h.downloads.PruneUnused(before)
	return errors.Join(err, downErr, h.digests.Sweep(), h.downloads.Sweep())
}

// forgetGone forgets entries whose layer is not here any more.
func (h *Home) forgetGone(ctx context.Context) error {
	records, err := h.Cache.List()
	if err != nil {
		return err
	}
	for _, r := range records {
		here := true
		if r.Value.Layer.DiffID != "" {
			if here, err = h.haveLayer(ctx, r.Value.Layer); err != nil {
				return err
			}
		}
		if !here || r.Damaged {
			if err := h.Cache.Remove(r.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// heldBy lists the layers that cache entries name.
func heldBy(records []cache.Record[cache.Entry]) []ocispec.Descriptor {
	var keep []ocispec.Descriptor
	for _, r := range records {
		if r.Value.Layer.DiffID != "" {
			keep = append(keep, r.Value.Layer.Blob, ocispec.Descriptor{Digest: r.Value.Layer.DiffID})
		}
	}
	return keep
}

// pruneDerived removes what was made from layers that are gone, interrupted downloads, and what dead processes left.
func (h *Home) pruneDerived(ctx context.Context, o PruneOptions, r *PruneReport) error {
	store, err := h.Snapshots()
	if err != nil {
		return err
	}
	bytes, err := store.Prune(func(diffID digest.Digest) bool {
		_, err := os.Lstat(h.Layout.BlobPath(diffID))
		return err == nil
	})
	r.Bytes += bytes
	partial, partialErr := h.partial().Prune()
	r.Bytes += partial
	errs := []error{err, partialErr, store.Sweep(), h.sweep(), network.Sweep(ctx, h.networkDir())}
	runtime.Sweep()
	if o.All {
		mounts := filepath.Join(h.Dir, "mounts")
		errs = append(errs, os.RemoveAll(mounts), os.RemoveAll(filepath.Join(h.Dir, "contexts")))
	}
	return errors.Join(errs...)
}

// sweep removes files that were being written when their processes were killed.
func (h *Home) sweep() error {
	var errs []error
	names, err := filepath.Glob(filepath.Join(h.Dir, ".tmp-*"))
	errs = append(errs, err, durable.Sweep(filepath.Join(h.Dir, "contexts")))
	for _, name := range names {
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}

// A Usage says where the bytes of the store are.
type Usage struct {
	Kinds []KindUsage
	Blobs []HeldBlob
}

// KindUsage is a row of `forge system df`. Bytes are what the disk holds.
type KindUsage struct {
	Name        string
	Count       int
	Bytes       int64
	Reclaimable int64 // what prune -a would give back of it
}

// A HeldBlob is a blob and who needs it.
type HeldBlob struct {
	Digest digest.Digest
	Bytes  int64
	HeldBy []string // images and "cache"; none is litter
}

// DiskUsage measures the store, each byte once.
func (h *Home) DiskUsage(ctx context.Context) (u Usage, err error) {
	layout, err := h.Layout.DiskUsage(ctx)
	if err != nil {
		return u, err
	}
	records, err := h.Cache.List()
	if err != nil {
		return u, err
	}
	cached := map[digest.Digest]bool{}
	for _, d := range heldBy(records) {
		cached[d.Digest] = true
	}
	images, layers := KindUsage{Name: "Images", Count: len(layout.Images)}, KindUsage{Name: "Build cache", Count: len(records)}
	for _, b := range layout.Blobs {
		blob := HeldBlob{Digest: b.Digest, Bytes: b.Size}
		for _, i := range b.Images {
			blob.HeldBy = append(blob.HeldBy, nameOrDigest(layout.Images[i].Named[0]))
		}
		if cached[b.Digest] {
			blob.HeldBy = append(blob.HeldBy, "cache")
		}
		if len(b.Images) > 0 {
			images.Bytes += b.Size
		} else {
			layers.Bytes += b.Size
		}
		u.Blobs = append(u.Blobs, blob)
	}
	images.Reclaimable, layers.Reclaimable = images.Bytes, layers.Bytes
	u.Kinds = []KindUsage{images, layers}
	for _, d := range []struct{ name, dir string }{
		{"Indexes and unpacked layers", "snapshots"},
		{"Cache mounts", "mounts"},
		{"Build contexts", "contexts"},
		{"Interrupted downloads", "partial"},
		{"Drafts", "drafts"},
	} {
		k, err := treeUsage(filepath.Join(h.Dir, d.dir))
		if err != nil {
			return u, err
		}
		k.Name, k.Reclaimable = d.name, k.Bytes
		u.Kinds = append(u.Kinds, k)
	}
	return u, nil
}

// treeUsage measures what lies under a directory; its direct children are what is counted.
func treeUsage(dir string) (k KindUsage, err error) {
	seen := map[uint64]bool{} // inodes with several names
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		if filepath.Dir(name) == filepath.Clean(dir) {
			k.Count++
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		k.Bytes += allocated(info, seen)
		return nil
	})
	return k, err
}
