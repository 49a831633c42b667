package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// PruneOptions say what stays besides the images that have a name.
type PruneOptions struct {
	Keep     []ocispec.Descriptor // what cache entries and containers hold: blobs, or manifests with all they name
	Nameless bool                 // images without a name go, unless Keep holds their manifests
}

// Pruned is what a Prune removed.
type Pruned struct {
	Images []Named
	Blobs  []digest.Digest
	Bytes  int64 // that the file system has got back
}

// Prune deletes the blobs that no image and nothing in o.Keep reaches, and what dead processes left. The caller makes
// sure that nobody else uses the store. If what an image reaches cannot be told, because it is damaged, nothing is
// deleted: Fsck and Repair come first. It works on a full disk.
func (l *Layout) Prune(ctx context.Context, o PruneOptions) (p Pruned, err error) {
	all, damaged, err := l.records()
	if err == nil && len(damaged) > 0 {
		err = damaged[0]
	}
	if err != nil {
		return p, err
	}
	kept := map[digest.Digest]bool{}
	for _, d := range o.Keep {
		kept[d.Digest] = true
	}
	live := newReach(l)
	for _, n := range all {
		if o.Nameless && n.Reference == (Reference{}) && !kept[n.Descriptor.Digest] {
			p.Images = append(p.Images, n)
			continue
		}
		if err := live.from(ctx, n.Descriptor); err != nil {
			return p, fmt.Errorf("image %s is damaged: %w", n.displayName(), err)
		}
	}
	for _, d := range o.Keep {
		if err := live.keep(ctx, d); err != nil {
			return p, err
		}
	}
	if len(p.Images) > 0 {
		if err := l.withNames(ctx, func() error { return l.dropRecords(func() error { return l.removeNameless(p.Images) }) }); err != nil {
			return p, err
		}
	}
	if err := l.pruneCompressed(live); err != nil {
		return p, err
	}
	if err := l.pruneBlobs(ctx, live, &p); err != nil {
		return p, err
	}
	if _, err := os.Lstat(l.stale()); err == nil {
		l.refreshIndex() // there may not have been space for it before
	}
	return p, l.staging.Sweep()
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
	if IsManifest(d.MediaType) || IsIndex(d.MediaType) {
		if err := r.from(ctx, d); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	r.blobs[d.Digest] = true
	return nil
}

// pruneCompressed forgets the compressed forms of layers that are not live and adds those of the others.
func (l *Layout) pruneCompressed(live *reach) error {
	files, err := os.ReadDir(l.path("compressed"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		path := l.path("compressed", f.Name())
		hex, _, _ := strings.Cut(f.Name(), ".")
		if live.blobs[digest.Digest("sha256:"+hex)] {
			if r, err := readCompressed(path); err == nil {
				live.blobs[r.Blob.Digest] = true
				continue
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pruneBlobs removes the blobs, and whatever else lies there, that are not live.
func (l *Layout) pruneBlobs(ctx context.Context, live *reach, p *Pruned) error {
	t := trash{dir: l.path("trash")}
	defer func() { _ = t.empty() }() // also what an earlier one left; it is told of below
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
	if err := failpoint.At("image.prune.before-empty"); err != nil {
		return err
	}
	return t.empty()
}

// allocated is what a file takes of the disk, in bytes, that its removal gives back.
func allocated(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink > 1 {
		return 0
	}
	return st.Blocks * 512
}

// A trash directory takes what is removed, at once and out of everybody's way; unlinking large files takes long.
type trash struct {
	dir  string
	made bool
	next int
}

func (t *trash) put(path string) error {
	if !t.made {
		if err := os.RemoveAll(t.dir); err != nil {
			return err
		}
		if err := os.Mkdir(t.dir, 0o700); isFull(err) {
			return os.RemoveAll(path) // there is not even space for the directory
		} else if err != nil {
			return err
		}
		t.made = true
	}
	t.next++
	err := durable.Move(path, filepath.Join(t.dir, fmt.Sprint(t.next)))
	if isFull(err) {
		return os.RemoveAll(path)
	}
	return err
}

func (t *trash) empty() error { return os.RemoveAll(t.dir) }
