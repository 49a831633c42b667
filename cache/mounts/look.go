package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A Look is what can be seen of a directory without reading its files.
type Look struct {
	Fingerprint string // changes with names, types, owners, sizes, times and inodes
	Size        int64  // of its tar in bytes
	Changed     int64  // when a file was last changed: after a [Clock] that is later, no change leaves the fingerprint as it is

	parts []notedPart
}

// LookAt looks at a directory.
func LookAt(ctx context.Context, dir *os.File) (Look, error) {
	h := sha256.New()
	var look Look
	var seen memoryWriter
	err := snapshot.ExportParts(ctx, snapshot.Plain(snapshot.OpenLive(dir)), func(_ string, e *snapshot.Entry, header []byte, content int64) error {
		key := partKey(header)
		h.Write(key[:])
		if content > 0 {
			var state [16]byte
			binary.LittleEndian.PutUint64(state[:], e.Inode)
			binary.LittleEndian.PutUint64(state[8:], uint64(e.Changed))
			h.Write(state[:])
			look.Changed = max(look.Changed, e.Changed)
		}
		seen.part(key, e, content, look.Size)
		look.Size += int64(len(header)) + layertar.Padded(content)
		return nil
	})
	look.Fingerprint, look.parts = hex.EncodeToString(h.Sum(nil)), seen.parts
	return look, err
}

// inTar is about how long an entry is in a tar: its header, with what a time takes, and its content.
func inTar(e *snapshot.Entry) int64 {
	if e.Mode&unix.S_IFMT != unix.S_IFREG {
		return 3 * layertar.Block
	}
	return 3*layertar.Block + layertar.Padded(e.Size)
}
