package image

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// Usage says where the bytes of the layout are. Sizes are what blobs take of the disk.
type Usage struct {
	Images []ImageUsage
	Blobs  []BlobUsage // sorted by digest
	Total  int64
	Loose  int64 // of blobs that no image holds: of the build cache, or litter
}

// ImageUsage is what an image takes.
type ImageUsage struct {
	Named  []Named // all records of it
	Size   int64
	Unique int64 // of blobs that no other image holds
	Err    error // the image is damaged; what it holds could not all be told
}

// BlobUsage is what a blob takes.
type BlobUsage struct {
	Digest digest.Digest
	Size   int64
	Images []int // that hold it, as indexes into Usage.Images
}

// DiskUsage measures the layout.
func (l *Layout) DiskUsage(ctx context.Context) (u Usage, err error) {
	named, err := l.List(ctx)
	if err != nil {
		return u, err
	}
	holders := map[digest.Digest][]int{}
	index := map[digest.Digest]int{}
	for _, n := range named {
		if i, ok := index[n.Descriptor.Digest]; ok {
			u.Images[i].Named = append(u.Images[i].Named, n)
			continue
		}
		i := len(u.Images)
		index[n.Descriptor.Digest] = i
		held := newReach(l)
		u.Images = append(u.Images, ImageUsage{Named: []Named{n}, Err: held.from(ctx, n.Descriptor)})
		for d := range held.blobs {
			holders[d] = append(holders[d], i)
		}
	}
	files, err := os.ReadDir(l.blobs())
	if err != nil {
		return u, err
	}
	for _, f := range files {
		info, err := os.Lstat(filepath.Join(l.blobs(), f.Name()))
		if err != nil {
			continue // removed since
		}
		var size int64
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			size = st.Blocks * 512
		}
		d := digest.Digest("sha256:" + f.Name())
		u.add(BlobUsage{d, size, holders[d]})
	}
	return u, nil
}

func (u *Usage) add(b BlobUsage) {
	slices.Sort(b.Images)
	u.Blobs = append(u.Blobs, b)
	u.Total += b.Size
	for _, i := range b.Images {
		u.Images[i].Size += b.Size
		if len(b.Images) == 1 {
			u.Images[i].Unique += b.Size
		}
	}
	if len(b.Images) == 0 {
		u.Loose += b.Size
	}
}
