package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Fingerprint tells whether a directory has changed, as far as names, types, owners, sizes, times and inodes do: it reads no file.
func Fingerprint(ctx context.Context, dir *os.File) (string, error) {
	h := sha256.New()
	var line []byte
	err := filetree.Walk(ctx, snapshot.OpenLive(dir), ".", func(path string, e *snapshot.Entry, _ *filetree.Sum) error {
		if path != "." {
			line = fmt.Appendf(line[:0], "%q %o %d %d %d %d %d %q\n", path, e.Mode, e.UID, e.GID, e.Size, e.ModTime.UnixNano(), e.Inode, e.Link)
			h.Write(line)
		}
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
