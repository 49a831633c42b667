package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/flock"
)

// A Kind is a way to stack layers.
type Kind string

// The kinds, best first.
const (
	EROFS   Kind = "erofs"   // tars mounted in place, stacked by overlayfs
	Overlay Kind = "overlay" // unpacked, stacked by overlayfs
	Copy    Kind = "copy"    // unpacked, stacked by copying
)

// A Store turns layers into file systems. Safe for concurrent use, by processes too.
type Store struct {
	root   string // state directory; snapshots and drafts are in it
	dir    string // root/snapshots
	layout *image.Layout

	probed sync.Once
	kind   Kind
	why    string

	rights func() rights // of this process, found out once

	open    openLayers
	layers  layerMounts
	lent    lentLayers
	session session
	trees   unpackedTrees
	reaper  reaper
	spares  spares
}

// Open opens root/snapshots and root/drafts, of a kind; "" is what the machine can do best. It does not probe what the kernel can do: that waits for the first Mount,
// Draft or Kind, as reading layers needs nothing of it.
func Open(root string, l *image.Layout, kind Kind) (*Store, error) {
	switch kind {
	case "", EROFS, Overlay, Copy:
	default:
		return nil, fmt.Errorf("snapshotter %q: must be erofs, overlay or copy", kind)
	}
	for _, dir := range []string{"snapshots", "drafts"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return nil, err
		}
	}
	s := &Store{root: root, dir: filepath.Join(root, "snapshots"), layout: l, kind: kind}
	s.rights = sync.OnceValue(readRights)
	if kind != "" {
		s.probed.Do(func() { s.why = "asked for" })
	}
	return s, nil
}

// Close gives back the mounts and directories of this process, waits for what is being deleted in the background, and
// makes unpacked layers durable. Drafts must be closed before; files that Mount returned stay usable.
func (s *Store) Close() error {
	return errors.Join(s.layers.close(), s.closeLent(), s.reaper.wait(), s.spares.close(), s.trees.sync(), s.session.close())
}

// Release gives back the mounts of layers, of which no draft may be open. It takes the kernel some time, in which the caller may do something else;
// Close has nothing left to do then, and what needs a layer mounts it again.
func (s *Store) Release() error { return s.layers.close() }

// Sweep deletes what dead processes have left: drafts, and unpacked layers that were not durable when the machine went
// down. What cannot be deleted is named in the error, and does no harm.
func (s *Store) Sweep() error {
	return errors.Join(flock.Sweep(s.drafts(), "", removeTree), s.sweepTrees())
}

// snapshotPath is where what is derived from a layer is kept: its index (suffix ".erofs") or its unpacked tree ("").
func (s *Store) snapshotPath(diffID digest.Digest, suffix string) string {
	return filepath.Join(s.dir, diffID.Encoded()+suffix)
}

// closeFD closes a descriptor that is not an *os.File.
func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil {
		return os.NewSyscallError("close", err)
	}
	return nil
}
