package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
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
	l := newLooker()
	err := snapshot.ExportParts(ctx, snapshot.Plain(snapshot.OpenLive(dir)), func(_ string, e *snapshot.Entry, header []byte, content int64) error {
		l.part(header, e, content)
		return nil
	})
	return l.end(), err
}

// A looker makes a Look of the parts of a tar, as they come.
type looker struct {
	h    hash.Hash
	look Look
	seen memoryWriter
}

func newLooker() *looker { return &looker{h: sha256.New()} }

// part takes a part: e is the file with the content, if there is any.
func (l *looker) part(header []byte, e *snapshot.Entry, content int64) {
	key := partKey(header)
	l.h.Write(key[:])
	if content > 0 {
		var state [16]byte
		binary.LittleEndian.PutUint64(state[:], e.Inode)
		binary.LittleEndian.PutUint64(state[8:], uint64(e.Changed))
		l.h.Write(state[:])
		l.look.Changed = max(l.look.Changed, e.Changed)
	}
	l.seen.part(key, e, content, l.look.Size)
	l.look.Size += int64(len(header)) + layertar.Padded(content)
}

func (l *looker) end() Look {
	l.look.Fingerprint, l.look.parts = hex.EncodeToString(l.h.Sum(nil)), l.seen.parts
	return l.look
}

// inTar is about how long an entry is in a tar: its header, with what a time takes, and its content.
func inTar(e *snapshot.Entry) int64 {
	if e.Mode&unix.S_IFMT != unix.S_IFREG {
		return 3 * layertar.Block
	}
	return 3*layertar.Block + layertar.Padded(e.Size)
}
