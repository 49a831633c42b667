package forge

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// A Usage says where the bytes of the store are.
type Usage struct {
	Kinds []KindUsage
	Blobs []HeldBlob
}

// KindUsage is a row of `forge system df`. Bytes are what the disk holds.
type KindUsage struct {
	Name        string
	Count       int
	Active      int // that are in use: images of containers, containers that run, volumes of containers
	Bytes       int64
	Reclaimable int64 // what prune -a would give back of it
}

// A HeldBlob is a blob and who needs it.
type HeldBlob struct {
	Digest digest.Digest
	Bytes  int64
	HeldBy []string // images and "cache"; none is garbage
}

// DiskUsage measures the store, each byte once.
func (h *Home) DiskUsage(ctx context.Context) (u Usage, err error) {
	blobs, count, err := h.Layout.DiskUsage(ctx)
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
	users, err := h.imageUsers()
	if err != nil {
		return u, err
	}
	active, uses := map[digest.Digest]bool{}, h.whetherUsed(ctx, users)
	images, layers := KindUsage{Name: "Images", Count: count}, KindUsage{Name: "Build Cache", Count: len(records)}
	for _, b := range blobs {
		used := false
		blob := HeldBlob{Digest: b.Digest, Bytes: b.Bytes}
		for _, n := range b.Images {
			blob.HeldBy = append(blob.HeldBy, nameOrDigest(n))
			if uses(n) {
				used, active[n.Descriptor.Digest] = true, true
			}
		}
		if cached[b.Digest] {
			blob.HeldBy = append(blob.HeldBy, "cache")
		}
		switch {
		case used:
			images.Bytes += b.Bytes
		case len(b.Images) > 0:
			images.Bytes, images.Reclaimable = images.Bytes+b.Bytes, images.Reclaimable+b.Bytes
		default:
			layers.Bytes += b.Bytes
		}
		u.Blobs = append(u.Blobs, blob)
	}
	images.Active, layers.Reclaimable = len(active), layers.Bytes
	volumes, err := h.volumeUsage()
	if err != nil {
		return u, err
	}
	containers, err := h.containerUsage(ctx)
	if err != nil {
		return u, err
	}
	u.Kinds = []KindUsage{images, containers, volumes, layers}
	return u, h.treesUsage(&u)
}

// whetherUsed reports whether containers use an image; it finds that out once.
func (h *Home) whetherUsed(ctx context.Context, users imageUsers) func(n image.Named) bool {
	known := map[digest.Digest]bool{}
	return func(n image.Named) bool {
		used, ok := known[n.Descriptor.Digest]
		if !ok {
			used = h.userOf(ctx, users, n) != nil
			known[n.Descriptor.Digest] = used
		}
		return used
	}
}

// treesUsage measures what is beside images and layers.
func (h *Home) treesUsage(u *Usage) error {
	for _, d := range []struct{ name, dir string }{
		{"Indexes and unpacked layers", "snapshots"},
		{"Cache mounts", "mounts"},
		{"Build contexts", "contexts"},
		{"Interrupted downloads", "partial"},
		{"Drafts", "drafts"},
	} {
		k, err := treeUsage(filepath.Join(h.Dir, d.dir))
		if err != nil {
			return err
		}
		k.Name, k.Reclaimable = d.name, k.Bytes
		u.Kinds = append(u.Kinds, k)
	}
	return nil
}

// CacheUsage is what the build cache has of one layer.
type CacheUsage struct {
	ID          string // of the entry, hexadecimal
	Description string // the step's name
	Bytes       int64  // that the disk holds of the layer
	Shared      bool   // an image, or a running process, has the layer, too
	Created     time.Time
	Used        time.Time
}

// BuildCache lists the entries of the build cache, the least recently used first.
func (h *Home) BuildCache(ctx context.Context) (list []CacheUsage, err error) {
	records, err := h.Cache.List()
	if err != nil {
		return nil, err
	}
	reached, err := h.Layout.Reached(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		layer := r.Value.Layer
		u := CacheUsage{
			ID: r.Key.String(), Description: r.Value.Name, Created: r.Value.Created, Used: r.Used,
			Shared: reached[layer.DiffID] || reached[layer.Blob.Digest],
		}
		if info, err := os.Lstat(h.Layout.BlobPath(layer.Blob.Digest)); err == nil {
			u.Bytes = info.Size()
		}
		list = append(list, u)
	}
	return list, nil
}

// treeUsage measures what lies under a directory; its direct children are what is counted.
func treeUsage(dir string) (k KindUsage, err error) {
	seen := map[uint64]bool{} // inodes
	count := func(st *unix.Stat_t) {
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[st.Ino] {
				return
			}
			seen[st.Ino] = true
		}
		k.Bytes += st.Blocks * 512
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err == nil {
		count(&st)
	}
	err = snapshot.EachFile(dir, func(in, _ string, st *unix.Stat_t) error {
		if in == "." {
			k.Count++
		}
		count(st)
		return nil
	})
	return k, err
}
