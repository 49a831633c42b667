package snapshot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// An Indexer makes the index of a tar that comes from outside, while its bytes pass by: it is the tap of
// [image.Layout.PushLayer]. Not safe for concurrent use.
//
// Unpacking would give the same files: later entries win, missing directories are made (0755, root), links on the way are
// followed within the layer, hard links are to files of the layer. What a layer may not hold is an error, which
// Write and Finish return.
type Indexer struct {
	store  *Store
	spill  *filetree.Spill
	index  *erofs.Builder
	parser *layertar.Parser
	pos    int64
	held   []byte // of what the parser needs
	err    error
}

// Indexer begins the index of a layer. Close it.
func (s *Store) Indexer() *Indexer {
	x := newIndexer(s.spill())
	x.store = s
	return x
}

// newIndexer begins an index that is not staged.
func newIndexer(spill *filetree.Spill) *Indexer {
	x := &Indexer{spill: spill, index: erofs.NewBuilder(spill)}
	x.index.FollowLinks = true
	x.parser = layertar.NewParser(x.add)
	return x
}

// Write takes the next bytes of the tar.
func (x *Indexer) Write(p []byte) (int, error) {
	if x.err != nil {
		return 0, x.err
	}
	n := len(p)
	for len(p) > 0 && x.parser.Need > 0 {
		if skip := x.parser.Off + int64(len(x.held)) - x.pos; skip > 0 {
			skip = min(skip, int64(len(p)))
			x.pos += skip
			p = p[skip:]
			continue
		}
		take := min(x.parser.Need-len(x.held), len(p))
		x.pos += int64(take)
		b := p[:take]
		p = p[take:]
		if len(x.held) > 0 || take < x.parser.Need {
			x.held = append(x.held, b...)
			b = x.held
		}
		if len(b) < x.parser.Need {
			continue
		}
		x.held = x.held[:0]
		if x.err = x.parser.Take(b); x.err != nil {
			return 0, x.err
		}
	}
	x.pos += int64(len(p))
	return n, nil
}

// ReadFrom reads the headers of a tar of the given size, and nothing else of it.
func (x *Indexer) readHeaders(ctx context.Context, r io.ReaderAt, size int64) error {
	buf := make([]byte, 32<<10)
	from, have := int64(0), 0 // what buf holds
	for x.parser.Need > 0 && x.err == nil {
		off, need := x.parser.Off, x.parser.Need
		if off < from || off+int64(need) > from+int64(have) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if off+int64(need) > size {
				break
			}
			if need > len(buf) {
				buf = make([]byte, need)
			}
			n, err := r.ReadAt(buf, off)
			if n < need {
				return errors.Join(err, io.ErrUnexpectedEOF)
			}
			from, have = off, n
		}
		x.err = x.parser.Take(buf[off-from:][:need])
	}
	x.pos = size
	return x.err
}

// finish is told that the tar has ended.
func (x *Indexer) finish() error {
	if x.err == nil {
		x.err = x.parser.Finish(x.pos)
	}
	return x.err
}

// Finish stages the index of the tar, whose digest the caller has verified.
func (x *Indexer) Finish(diffID digest.Digest) error {
	if err := x.finish(); err != nil {
		return fmt.Errorf("layer %s: %w", diffID, err)
	}
	sum, err := sumOf(diffID)
	if err != nil {
		return err
	}
	if err := x.store.commitIndex(x.index, x.pos, sum); err != nil {
		return fmt.Errorf("layer %s: index: %w", diffID, err)
	}
	return nil
}

// Close gives back what the index was made in.
func (x *Indexer) Close() error { return x.spill.Close() }

// add enters one entry.
func (x *Indexer) add(t *layertar.Header) error {
	path, err := layertar.CleanPath(t.Path)
	if err != nil {
		return err
	}
	dir, base := filetree.Split(path)
	if strings.HasPrefix(path, layertar.WhiteoutPrefix) || strings.Contains(path, "/"+layertar.WhiteoutPrefix) {
		return x.hide(dir, base)
	}
	switch t.Kind {
	case layertar.Regular:
		t.Mode |= unix.S_IFREG
		if t.Sparse != nil {
			return x.index.AddSparse(path, &t.Entry, t.Offset, t.Sparse)
		}
	case layertar.HardLink:
		target, err := layertar.CleanPath(t.Target)
		if err != nil {
			return err
		}
		if path == "." {
			return errors.New("the root can only be a directory")
		}
		return x.index.Link(path, target)
	case layertar.Symlink:
		t.Mode, t.Link = t.Mode|unix.S_IFLNK, t.Target
	case layertar.CharDevice:
		t.Mode |= unix.S_IFCHR
	case layertar.BlockDevice:
		t.Mode |= unix.S_IFBLK
	case layertar.Directory:
		t.Mode |= unix.S_IFDIR
	case layertar.FIFO:
		t.Mode |= unix.S_IFIFO
	default:
		return fmt.Errorf("entry of unknown type %q", t.Kind)
	}
	return x.index.Add(path, &t.Entry, t.Offset)
}

// hide enters a whiteout.
func (x *Indexer) hide(dir, base string) error {
	const aufs = ".wh..wh." // begins the names of aufs's own files, which mean nothing to anybody else
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, aufs) {
			return nil
		}
		if strings.HasPrefix(part, layertar.WhiteoutPrefix) {
			return erofs.ErrOddWhiteout
		}
	}
	if base == layertar.WhiteoutOpaque {
		return x.index.Opaque(dir)
	}
	if strings.HasPrefix(base, aufs) {
		return nil
	}
	name, ok := strings.CutPrefix(base, layertar.WhiteoutPrefix)
	if !ok || name == "" || name == "." || name == ".." {
		return erofs.ErrOddWhiteout
	}
	return x.index.Hide(filetree.Join(dir, name))
}

// sumOf is the SHA-256 that a digest names.
func sumOf(d digest.Digest) (sum [32]byte, err error) {
	if err := image.CheckDigest(d); err != nil {
		return sum, err
	}
	_, err = hex.Decode(sum[:], []byte(d.Encoded()))
	return sum, err
}
