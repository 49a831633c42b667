package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A Look is what can be seen of a directory without reading its files.
type Look struct {
	Fingerprint string // changes with names, types, owners, sizes, times and inodes
	Size        int64  // of its tar in bytes, about
}

// LookAt looks at a directory.
func LookAt(ctx context.Context, dir *os.File) (Look, error) {
	h := sha256.New()
	var line []byte
	var look Look
	err := filetree.Walk(ctx, snapshot.OpenLive(dir), ".", func(path string, e *snapshot.Entry, _ *filetree.Sum) error {
		if path != "." {
			line = fmt.Appendf(line[:0], "%q %o %d %d %d %d %d %q\n", path, e.Mode, e.UID, e.GID, e.Size, e.ModTime.UnixNano(), e.Inode, e.Link)
			h.Write(line)
			look.Size += inTar(e)
		}
		return nil
	})
	look.Fingerprint = hex.EncodeToString(h.Sum(nil))
	return look, err
}

// inTar is about how long an entry is in a tar: its header, with what a time takes, and its content.
func inTar(e *snapshot.Entry) int64 {
	if e.Mode&unix.S_IFMT != unix.S_IFREG {
		return 3 * layertar.Block
	}
	return 3*layertar.Block + layertar.Padded(e.Size)
}
