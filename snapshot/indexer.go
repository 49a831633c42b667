package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/image"
)

// An Indexer makes the index of a tar that comes from outside, while its bytes pass by: it is the tap of
// [image.Layout.PushLayer]. Not safe for concurrent use.
//
// Unpacking would give the same files: later entries win, missing directories are made (0755, root), links on the way are
// followed within the layer, hard links are to files of the layer. What a layer may not hold is an error, which
// Write and Finish return.
type Indexer struct {
	store  *Store
	index  *indexBuilder
	parser *tarParser
	pos    int64
	held   []byte // of what the parser needs
	err    error
}

// Indexer begins the index of a layer.
func (s *Store) Indexer() *Indexer {
	x := newIndexer(true)
	x.store = s
	return x
}

// newIndexer begins the index of a layer or, without whiteouts, of an archive whose files all are files.
func newIndexer(whiteouts bool) *Indexer {
	x := &Indexer{index: newIndexBuilder()}
	x.index.follow = true
	x.parser = newTarParser(func(t *tarEntry) error { return x.add(t, whiteouts) })
	return x
}

// Write takes the next bytes of the tar.
func (x *Indexer) Write(p []byte) (int, error) {
	if x.err != nil {
		return 0, x.err
	}
	n := len(p)
	for len(p) > 0 && x.parser.need > 0 {
		if skip := x.parser.off + int64(len(x.held)) - x.pos; skip > 0 {
			skip = min(skip, int64(len(p)))
			x.pos += skip
			p = p[skip:]
			continue
		}
		take := min(x.parser.need-len(x.held), len(p))
		x.pos += int64(take)
		b := p[:take]
		p = p[take:]
		if len(x.held) > 0 || take < x.parser.need {
			x.held = append(x.held, b...)
			b = x.held
		}
		if len(b) < x.parser.need {
			continue
		}
		x.held = x.held[:0]
		if x.err = x.parser.take(b); x.err != nil {
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
	for x.parser.need > 0 && x.err == nil {
		off, need := x.parser.off, x.parser.need
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
		x.err = x.parser.take(buf[off-from:][:need])
	}
	x.pos = size
	return x.err
}

// finish is told that the tar has ended.
func (x *Indexer) finish() error {
	if x.err == nil {
		x.err = x.parser.finish(x.pos)
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

// add enters one entry.
func (x *Indexer) add(t *tarEntry, whiteouts bool) error {
	path, err := cleanPath(t.name)
	if err != nil {
		return err
	}
	dir, base := splitPath(path)
	if strings.HasPrefix(path, whiteoutPrefix) || strings.Contains(path, "/"+whiteoutPrefix) {
		if !whiteouts {
			return fmt.Errorf("a name that begins with %s says in a layer that a file is removed", whiteoutPrefix)
		}
		return x.hide(dir, base)
	}
	switch t.kind {
	case tarRegular:
		t.Mode |= modeRegular
		if t.sparse != nil {
			return x.addSparse(path, t)
		}
	case tarHard:
		target, err := cleanPath(t.target)
		if err != nil {
			return err
		}
		if path == "." {
			return errors.New("the root can only be a directory")
		}
		return x.index.link(path, target)
	case tarLink:
		t.Mode, t.Link = t.Mode|modeLink, t.target
	case tarChar:
		t.Mode |= modeChar
	case tarBlockTy:
		t.Mode |= modeBlock
	case tarDir:
		t.Mode |= modeDir
	case tarFIFO:
		t.Mode |= modeFIFO
	default:
		return fmt.Errorf("entry of unknown type %q", t.kind)
	}
	return x.index.add(path, &t.Entry, t.data)
}

// hide enters a whiteout.
func (x *Indexer) hide(dir, base string) error {
	const aufs = ".wh..wh." // begins the names of aufs's own files, which mean nothing to anybody else
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, aufs) {
			return nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return errOddWhiteout
		}
	}
	if base == whiteoutOpaque {
		return x.index.opaque(dir)
	}
	if strings.HasPrefix(base, aufs) {
		return nil
	}
	name, ok := strings.CutPrefix(base, whiteoutPrefix)
	if !ok || name == "" || name == "." || name == ".." {
		return errOddWhiteout
	}
	return x.index.hide(joinPath(dir, name))
}

var errOddWhiteout = errors.New("whiteout of no file")

// addSparse enters a sparse file.
func (x *Indexer) addSparse(path string, t *tarEntry) error {
	m, err := newSparseMap(t.Size, t.data, t.sparse)
	if err != nil {
		return err
	}
	if err := x.index.charge(4 * len(m.chunks)); err != nil {
		return err
	}
	// The offset is of no use, and the size not of data.
	if err := x.index.add(path, &t.Entry, 0); err != nil {
		return err
	}
	if x.index.sparse == nil {
		x.index.sparse = make(map[int32]sparseMap)
	}
	x.index.sparse[int32(len(x.index.inodes)-1)] = m
	return nil
}

// cleanPath makes a path of a tar relative to the root, which it cannot leave.
func cleanPath(name string) (string, error) {
	if name == "" || len(name) > maxPath {
		return "", fmt.Errorf("name of %d bytes", len(name))
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("name with a zero byte")
	}
	out := make([]byte, 0, len(name))
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
		default:
			if len(part) > maxName {
				return "", fmt.Errorf("name of %d bytes", len(part))
			}
			if len(out) > 0 {
				out = append(out, '/')
			}
			out = append(out, part...)
		}
	}
	if len(out) == 0 {
		return ".", nil
	}
	return string(out), nil
}

// sumOf is the SHA-256 that a digest names.
func sumOf(d digest.Digest) (sum [32]byte, err error) {
	if err := image.CheckDigest(d); err != nil {
		return sum, err
	}
	for i := range sum {
		sum[i] = unhex(d.Encoded()[2*i])<<4 | unhex(d.Encoded()[2*i+1])
	}
	return sum, nil
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}
