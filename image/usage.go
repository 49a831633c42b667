package image

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// A BlobUsage is what a blob takes of the disk.
type BlobUsage struct {
	Digest digest.Digest
	Bytes  int64
	Images []Named // that hold it, each by its first name; none if it is of the build cache, or litter
}

// DiskUsage measures the blobs, sorted by digest, and counts the images. What a damaged image holds may be told in part.
func (l *Layout) DiskUsage(ctx context.Context) (blobs []BlobUsage, images int, err error) {
	named, err := l.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	holders := map[digest.Digest][]Named{}
	seen, known := map[digest.Digest]bool{}, configs{}
	for _, n := range named {
		if seen[n.Descriptor.Digest] {
			continue
		}
		seen[n.Descriptor.Digest] = true
		held := newReach(l)
		held.configs = known
		_ = held.from(ctx, n.Descriptor) // what is damaged is for Fsck to say
		for d := range held.blobs {
			holders[d] = append(holders[d], n)
		}
	}
	files, err := os.ReadDir(l.blobs())
	if err != nil {
		return nil, 0, err
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
		blobs = append(blobs, BlobUsage{d, size, holders[d]})
	}
	return blobs, len(seen), nil
}
