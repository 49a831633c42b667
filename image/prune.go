package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/flock"
)

// PruneOptions say what stays besides the images that have a name.
type PruneOptions struct {
	Keep     []ocispec.Descriptor // what cache entries hold: blobs, or manifests with all they name
	Roots    []ocispec.Descriptor // manifests that containers were made from
	Nameless bool                 // images without a name go, unless Keep or Roots hold their manifests
	Leases   []Lease              // as they were before Keep and Roots were found out: what a process that has ended since leaves is in those; nil if those are empty
	Drop     []digest.Digest      // images that go although they have a name
	Dry      bool                 // only find out what would go: nothing is removed
}

// Pruned is what a Prune removed and what it left.
type Pruned struct {
	Images []Named
	Blobs  []digest.Digest
	Bytes  int64 // that the file system gets back
	Left   []Left
	Kept   int64 // bytes of blobs that nothing but PruneOptions.Keep keeps
}

// Left is what nothing but a running process needs. It can go when that has ended.
type Left struct {
	Owner Owner
	Blobs int
	Bytes int64
}

// Prune moves to the trash the blobs that no image, nothing in o.Keep and no lease of a running process reaches, and deletes
// what dead processes left. The caller holds the store's lock exclusively, and calls [Layout.EmptyTrash] when it has given
// the lock up. If what an image reaches cannot be told, because it is damaged, nothing is deleted: Fsck and Repair come
// first. It works on a full disk.
func (l *Layout) Prune(ctx context.Context, o PruneOptions) (p Pruned, err error) {
	leases := o.Leases
	if leases == nil {
		if leases, err = l.Leases(); err != nil {
			return p, err
		}
	}
	// After the leases: who has named an image, and has given up his lease since, has left the name.
	all, damaged, err := l.records()
	if err == nil && len(damaged) > 0 {
		err = damaged[0]
	}
	if err != nil {
		return p, err
	}
	live := newReach(l)
	if err := l.mark(ctx, live, all, leases, o, &p); err != nil {
		return p, err
	}
	for _, lease := range leases {
		if err := l.markLease(ctx, live, lease, &p); err != nil {
			return p, err
		}
	}
	dead, err := l.markCompressed(live)
	if err != nil {
		return p, err
	}
	if o.Dry {
		return p, l.countBlobs(live, &p)
	}
	if len(p.Images) > 0 {
		if err := l.withNames(ctx, func() error { return l.dropRecords(func() error { return l.removeNameless(p.Images) }) }); err != nil {
			return p, err
		}
	}
	if err := errors.Join(l.pruneReferrers(live), removeAll(dead)); err != nil {
		return p, err
	}
	if err := l.pruneBlobs(ctx, live, &p); err != nil {
		return p, err
	}
	if _, err := os.Lstat(l.stale()); err == nil {
		l.refreshIndex() // there may not have been space for it before
	}
	return p, errors.Join(l.sweepLeases(), l.staging.Sweep())
}

// mark finds out what images and o.Keep reach. Images that go are noted.
func (l *Layout) mark(ctx context.Context, live *reach, all []Named, leases []Lease, o PruneOptions, p *Pruned) error {
	kept := map[digest.Digest]bool{}
	for _, d := range slices.Concat(o.Keep, o.Roots) {
		kept[d.Digest] = true
	}
	for _, lease := range leases {
		for _, d := range lease.Held {
			kept[d.Digest] = true
		}
	}
	for _, n := range all {
		nameless := o.Nameless && n.Reference == (Reference{}) && !kept[n.Descriptor.Digest]
		if nameless || slices.Contains(o.Drop, n.Descriptor.Digest) {
			p.Images = append(p.Images, n)
			continue
		}
		if err := live.from(ctx, n.Descriptor); err != nil {
			return fmt.Errorf("image %s is damaged: %w", n.displayName(), err)
		}
	}
	for _, d := range o.Roots {
		if err := live.keep(ctx, d); err != nil {
			return err
		}
	}
	for _, d := range o.Keep {
		if info, err := os.Lstat(l.BlobPath(d.Digest)); err == nil && !live.blobs[d.Digest] {
			p.Kept += allocated(info)
		}
		if err := live.keep(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// Reached returns the digests of all blobs, here or not, that images and leases of running processes reach.
func (l *Layout) Reached(ctx context.Context) (map[digest.Digest]bool, error) {
	leases, err := l.Leases()
	if err != nil {
		return nil, err
	}
	all, _, err := l.records() // after the leases, as in Prune
	if err != nil {
		return nil, err
	}
	live := newReach(l)
	for _, n := range all {
		if err := live.from(ctx, n.Descriptor); err != nil {
			return nil, fmt.Errorf("image %s is damaged: %w", n.displayName(), err)
		}
	}
	for _, lease := range leases {
		for _, d := range lease.Held {
			if err := live.keep(ctx, d); err != nil {
				return nil, fmt.Errorf("held by %s: %w", lease.Owner, err)
			}
		}
	}
	return live.blobs, nil
}

// markLease adds what a running process holds, and notes what of it nothing else keeps.
func (l *Layout) markLease(ctx context.Context, live *reach, lease Lease, p *Pruned) error {
	held := newReach(l)
	for _, d := range lease.Held {
		if err := held.keep(ctx, d); err != nil {
			return fmt.Errorf("held by %s: %w", lease.Owner, err)
		}
	}
	left := Left{Owner: lease.Owner}
	for d := range held.blobs {
		if live.blobs[d] {
			continue
		}
		live.blobs[d] = true
		if info, err := os.Lstat(l.BlobPath(d)); err == nil {
			left.Blobs++
			left.Bytes += allocated(info)
		}
	}
	if left.Blobs > 0 {
		p.Left = append(p.Left, left)
	}
	return nil
}

// removeNameless removes the records of images without a name, and leaves those with one of the same images.
func (l *Layout) removeNameless(images []Named) error {
	for _, n := range images {
		if err := os.Remove(l.recordPath(Reference{}, n.Descriptor.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// keep adds something that is held by its descriptor, and may have gone.
func (r *reach) keep(ctx context.Context, d ocispec.Descriptor) error {
	if isManifest(d.MediaType) || IsIndex(d.MediaType) {
		if err := r.from(ctx, d); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	r.blobs[d.Digest] = true
	return nil
}

// markCompressed adds the compressed forms of layers that are live, and returns the files that remember those of the others.
func (l *Layout) markCompressed(live *reach) (dead []string, err error) {
	files, err := os.ReadDir(l.path("compressed"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range files {
		if durable.Temporary(f.Name()) {
			continue // being written; if not, a sweep removes it
		}
		path := l.path("compressed", f.Name())
		hex, _, _ := strings.Cut(f.Name(), ".")
		if live.blobs[digest.Digest("sha256:"+hex)] {
			if r, err := readCompressed(path); err == nil {
				live.blobs[r.Blob.Digest] = true
				continue
			}
		}
		dead = append(dead, path)
	}
	return dead, nil
}

func removeAll(files []string) error {
	for _, path := range files {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// countBlobs finds the blobs that are not live.
func (l *Layout) countBlobs(live *reach, p *Pruned) error {
	files, err := os.ReadDir(l.blobs())
	for _, f := range files {
		d := digest.Digest("sha256:" + f.Name())
		info, err := f.Info()
		if err != nil || live.blobs[d] || CheckDigest(d) != nil {
			continue
		}
		p.Blobs, p.Bytes = append(p.Blobs, d), p.Bytes+allocated(info)
	}
	return err
}

// pruneBlobs removes the blobs, and whatever else lies there, that are not live.
func (l *Layout) pruneBlobs(ctx context.Context, live *reach, p *Pruned) (err error) {
	t := trash{parent: l.path("trash")}
	defer func() { err = errors.Join(err, t.close()) }()
	files, err := os.ReadDir(l.blobs())
	if err != nil {
		return err
	}
	for _, f := range files {
		d := digest.Digest("sha256:" + f.Name())
		if live.blobs[d] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		if err := failpoint.At("image.prune.before-remove"); err != nil {
			return err
		}
		if err := t.put(filepath.Join(l.blobs(), f.Name())); err != nil {
			return err
		}
		if CheckDigest(d) == nil {
			p.Blobs = append(p.Blobs, d)
		}
		p.Bytes += allocated(info)
	}
	return nil
}

// Trash moves a file or directory of the store away, to be deleted by the next [Layout.EmptyTrash].
func (l *Layout) Trash(path string) error {
	t := trash{parent: l.path("trash")}
	return errors.Join(t.put(path), t.close())
}

// EmptyTrash deletes what prunes have moved away, also those that were killed.
func (l *Layout) EmptyTrash() error {
	if err := failpoint.At("image.prune.before-empty"); err != nil {
		return err
	}
	return flock.Sweep(l.path("trash"), "", os.RemoveAll)
}

// allocated is what a file takes of the disk, in bytes, that its removal gives back.
func allocated(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink > 1 {
		return 0
	}
	return st.Blocks * 512
}

// A trash takes what is removed, at once and out of everybody's way; unlinking large files takes long. It is a directory
// trash/<random> of this process's own.
type trash struct {
	parent string
	dir    *os.File // nil before the first put
	next   int
}

func (t *trash) put(path string) error {
	if t.dir == nil {
		err := os.MkdirAll(t.parent, 0o700)
		if err == nil {
			t.dir, err = flock.NewDir(t.parent, "")
		}
		if isFull(err) {
			return os.RemoveAll(path) // there is not even space for the directory
		}
		if err != nil {
			return err
		}
	}
	t.next++
	err := durable.Move(path, filepath.Join(t.dir.Name(), fmt.Sprint(t.next)))
	if isFull(err) {
		return os.RemoveAll(path)
	}
	return err
}

// close leaves the directory to the next sweep.
func (t *trash) close() error {
	if t.dir == nil {
		return nil
	}
	return t.dir.Close()
}
