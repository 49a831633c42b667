package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/journal"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// PruneOptions say what to remove besides garbage, which always goes.
type PruneOptions struct {
	Only    PruneKind // what goes; "" is everything
	All     bool      // all images, and the whole cache
	Filters []string  // docker's until=TIME (made before, and of the cache: last used before), label=K[=V] and label!=K[=V] (not of the cache), dangling=BOOL
	Volumes bool      // volumes without a name that no container uses, too
	MaxSize string    // of the cache's layers, such as 10g: the most recently used stay, and with until= all that was used since; "" keeps all that has a layer

	Events event.Sink // is told, from another goroutine, when Prune has to wait

	until   time.Duration             // 0 is no bound
	chosen  func(*ContainerInfo) bool // whether an image that was made then and has these labels may go; nil if there are no filters
	maxSize int64                     // bytes; negative is no bound
}

// A PruneKind is a kind of what a prune removes.
type PruneKind string

// What a prune can be for.
const (
	PruneImages PruneKind = "images"
	PruneCache  PruneKind = "cache" // what no image needs; with All, cache mounts and what is known of contexts, too
)

// takes reports whether what is of a kind goes.
func (o *PruneOptions) takes(kind PruneKind) bool { return o.Only == "" || o.Only == kind }

// Check reads the options and refuses mistakes. It is for whoever has to ask before a Prune.
func (o *PruneOptions) Check() error {
	if err := o.checkFilters(time.Now()); err != nil {
		return err
	}
	o.maxSize = -1
	if o.MaxSize == "" {
		return nil
	}
	var err error
	if o.maxSize, err = container.ParseSize(o.MaxSize); err != nil {
		return fmt.Errorf("--max-size %w", err)
	}
	return nil
}

// A PruneReport says what was removed.
type PruneReport struct {
	Removed []string
	Images  []Removal // those of Removed that were images
	Left    []string  // what could not go, because a running process uses it
	Bytes   int64     // that the file system has got back
}

// Prune removes what nothing needs: what no name, no cache entry and no running process reaches. Others may use the store
// meanwhile; Prune holds its lock while it decides, not while it deletes.
func (h *Home) Prune(ctx context.Context, o PruneOptions) (r PruneReport, err error) {
	if err := o.Check(); err != nil {
		return r, err
	}
	if o.takes(PruneImages) && (o.All || o.chosen != nil) {
		if err := h.dropImages(ctx, &o, &r); err != nil {
			return r, err
		}
	}
	if err := h.pruneCache(o, &r); err != nil {
		return r, err
	}
	if err := h.collect(ctx, o, &r); err != nil {
		return r, err
	}
	if o.takes(PruneImages) {
		h.pruneEvent(journal.Image, r.Bytes)
	}
	if o.Volumes {
		names, bytes, err := h.PruneVolumes(ctx, PruneVolumesOptions{Filters: o.Filters}) // of which there are labels only
		for _, name := range names {
			r.Removed = append(r.Removed, "volume "+name)
		}
		r.Bytes += bytes
		if err != nil {
			return r, err
		}
	}
	return r, errors.Join(h.pruneDerived(ctx, o, &r), h.containers().Sweep(snapshot.RemoveTree), h.volumes().Sweep())
}

// collect moves away, under the store's lock, what is not reached, and deletes it when others can go on.
func (h *Home) collect(ctx context.Context, o PruneOptions, r *PruneReport) (err error) {
	store, err := h.Snapshots()
	if err != nil {
		return err
	}
	lock, err := h.lockStore(ctx, o.Events)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close(), h.Layout.EmptyTrash()) }()
	leases, err := h.Layout.Leases() // before all that a process which ends meanwhile may leave
	if err != nil {
		return err
	}
	if err := h.forgetGone(); err != nil {
		return err
	}
	records, err := h.Cache.List()
	if err != nil {
		return err
	}
	if err := h.pruneLists(records); err != nil {
		return err
	}
	users, err := h.imageUsers()
	if err != nil {
		return err
	}
	pruned, err := h.Layout.Prune(ctx, image.PruneOptions{
		Leases: leases, Keep: heldBy(records), Roots: users.manifests(), Nameless: o.chosen == nil && o.takes(PruneImages),
	})
	r.add(pruned)
	if err != nil {
		return err
	}
	bytes, err := store.Prune(func(diffID digest.Digest) bool {
		has, err := h.Layout.Has(ocispec.Descriptor{Digest: diffID})
		return has || err != nil
	})
	r.Bytes += bytes
	return err
}

func (r *PruneReport) add(p image.Pruned) {
	r.Bytes += p.Bytes
	for _, n := range p.Images {
		r.Removed = append(r.Removed, "image "+nameOrDigest(n))
		r.image(n)
	}
	for _, d := range p.Blobs {
		r.Removed = append(r.Removed, "blob "+d.String())
	}
	for _, l := range p.Left {
		r.Left = append(r.Left, fmt.Sprintf("%s of blobs: in use by %s", units.HumanSize(float64(l.Bytes)), l.Owner))
	}
	if p.Kept > 0 {
		r.Left = append(r.Left, fmt.Sprintf("%s of build cache: prune -a, --max-size or --filter until= removes it", units.HumanSize(float64(p.Kept))))
	}
}

// image notes an image that was removed.
func (r *PruneReport) image(n image.Named) {
	if n.Reference != (image.Reference{}) {
		r.Images = append(r.Images, Removal{Untagged: n.Reference.Familiar()})
	}
	r.Images = append(r.Images, Removal{Deleted: n.Descriptor.Digest})
}

// lockPause is how long to wait for the store's lock without a word.
const lockPause = time.Second

// lockStore takes the store's lock for a prune. Others hold it for moments, but for a process that had no space for a lease.
func (h *Home) lockStore(ctx context.Context, events event.Sink) (*os.File, error) {
	told := time.AfterFunc(lockPause, func() {
		events.Send(event.Event{Time: time.Now(), Kind: event.Note, Text: "waiting for another process that has locked the store " + h.Dir})
	})
	defer told.Stop()
	lock, err := flock.Lock(ctx, filepath.Join(h.Dir, "lock"), flock.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return lock, nil
}

// pruneCache forgets entries: those that the options say.
func (h *Home) pruneCache(o PruneOptions, r *PruneReport) error {
	if !o.takes(PruneCache) {
		return h.Cache.Sweep()
	}
	if err := errors.Join(h.Cache.Sweep(), h.pruneMemos(o)); err != nil {
		return err
	}
	policy, any := o.policy()
	if !any {
		return nil
	}
	gone, err := h.Cache.Prune(policy)
	if len(gone) > 0 {
		r.Removed = append(r.Removed, fmt.Sprintf("%d cache entries", len(gone)))
	}
	return err
}

// policy says which entries of the cache go, if any do.
func (o *PruneOptions) policy() (policy cache.PrunePolicy, any bool) {
	switch {
	case !o.takes(PruneCache):
		return policy, false
	case o.until > 0:
		policy.Before = time.Now().Add(-o.until)
		policy.MaxSize = max(0, o.maxSize)
	case o.maxSize > 0:
		policy.MaxSize = o.maxSize
	case !o.All && o.Only == "" && o.maxSize < 0:
		return policy, false
	}
	return policy, true
}

// memosFor is how long digests and versions that nobody asks for are kept.
const memosFor = 30 * 24 * time.Hour

// pruneMemos forgets digests of trees and versions of downloads: all that the options do not keep, or old ones. They hold no
// layers, so that their number is all that matters.
func (h *Home) pruneMemos(o PruneOptions) error {
	age := memosFor
	if o.All || o.until > 0 {
		age = o.until
	}
	before := time.Now().Add(-age)
	_, err := h.digests.PruneUnused(before)
	_, downErr := h.downloads.PruneUnused(before)
	_, farErr := h.remotes.PruneUnused(before)
	return errors.Join(err, downErr, farErr, h.digests.Sweep(), h.downloads.Sweep(), h.remotes.Sweep())
}

// forgetGone forgets entries whose layer is gone.
func (h *Home) forgetGone() error {
	records, err := h.Cache.List()
	if err != nil {
		return err
	}
	for _, r := range records {
		has := true
		if r.Value.Layer.DiffID != "" {
			if has, err = h.Layout.Has(r.Value.Layer.Blob); err != nil {
				return err
			}
		}
		if !has || r.Damaged {
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

// pruneDerived removes interrupted downloads, what dead processes left, and, if all is to go, the directories of cache
// mounts and what is known of build contexts.
func (h *Home) pruneDerived(ctx context.Context, o PruneOptions, r *PruneReport) error {
	store, err := h.Snapshots()
	if err != nil {
		return err
	}
	partial, partialErr := h.partial().Prune()
	r.Bytes += partial
	errs := []error{partialErr, store.Sweep(), h.Networks().Sweep(ctx)}
	for _, dir := range []string{"", "contexts", "compressed", "snapshots"} {
		errs = append(errs, durable.Sweep(filepath.Join(h.Dir, dir)))
	}
	runtime.Sweep()
	if o.All && o.takes(PruneCache) {
		inUse, err := h.dropCacheMounts(math.MaxInt64)
		for _, id := range inUse {
			r.Left = append(r.Left, fmt.Sprintf("cache mount %s: in use", id))
		}
		errs = append(errs, err, h.dropContexts(), h.Layout.EmptyTrash())
	}
	return errors.Join(errs...)
}

// dropContexts forgets what is known of build contexts. The directory stays: somebody may be about to write to it.
func (h *Home) dropContexts() error {
	files, err := filepath.Glob(filepath.Join(h.Dir, "contexts", "[^.]*"))
	errs := []error{err}
	for _, f := range files {
		if err := os.Remove(f); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// dropCacheMounts removes directories of cache mounts that nobody uses, the least recently used first, until need bytes are
// garbage, and returns the IDs of those in use that it met.
func (h *Home) dropCacheMounts(need int64) (inUse []string, err error) {
	locks, err := filepath.Glob(filepath.Join(h.Dir, "mounts", "*", "lock"))
	if err != nil {
		return nil, err
	}
	used := map[string]time.Time{}
	for _, path := range locks {
		if info, err := os.Lstat(path); err == nil {
			used[path] = info.ModTime()
		}
	}
	slices.SortFunc(locks, func(a, b string) int { return used[a].Compare(used[b]) })
	for _, path := range locks {
		if need <= 0 {
			break
		}
		dir := filepath.Dir(path)
		lock, err := flock.TryLock(path, flock.Exclusive)
		if errors.Is(err, flock.ErrHeld) {
			id, _ := os.ReadFile(filepath.Join(dir, "id"))
			inUse = append(inUse, string(id))
			continue
		}
		if err != nil {
			return inUse, err
		}
		k, err := treeUsage(dir)
		if err == nil {
			err = h.Layout.Trash(dir)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return inUse, err
		}
		need -= k.Bytes
	}
	return inUse, nil
}
