package mounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Dir is a directory that is to be saved.
type Dir struct {
	File   *os.File
	Look   Look    // at it, now
	Memory *Memory // of it, nil if there is none
}

// A Saved says what became of a directory.
type Saved struct {
	Size int64  // of its tar, in bytes
	Sent int64  // bytes of packs that were stored
	Left string // a phrase that says what was left out; "" if nothing was

	memory memoryWriter
}

// Remember writes a [Memory] of the directory into a file. Nobody has used the directory at the time quiet of its [Clock], before it
// was saved.
func (s *Saved) Remember(path string, quiet int64) error { return s.memory.write(path, quiet) }

// Save stores a directory as the newest version of a mount. Devices, set-uid bits and capabilities are left out ([snapshot.Plain]),
// and, of more than limit bytes, files that are least worth it. Chunks that another version has are not stored again, and files that
// the directory's memory knows are not read for them.
//
// A directory that somebody writes to meanwhile may be an error, and may be saved as it never was: as when the machine goes down.
// The caller sees to it that nobody does, as far as the mount lets it.
func (s *Shelf) Save(ctx context.Context, m Mount, dir Dir, limit int64) (_ *Saved, err error) {
	base, err := s.Find(ctx, m)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, remote.ErrUntrusted) && !errors.Is(err, errDamaged) {
		return nil, err
	}
	if err := s.mayReplace(ctx, m); err != nil {
		return nil, err
	}
	tree := filetree.Tree(snapshot.OpenLive(dir.File))
	var left []string
	if dir.Look.Size > limit {
		if tree, left, err = fit(ctx, tree, limit); err != nil {
			return nil, err
		}
	}
	known, err := s.known(ctx, base)
	if err != nil {
		return nil, err
	}
	saved, t, err := s.pack(ctx, tree, dir.Memory, known)
	if err == nil && !t.affords(t.runs()) { // little is needed of many packs, in too many places for it to be fetched alone
		saved, t, err = s.pack(ctx, tree, dir.Memory, &table{})
	}
	if err != nil {
		return nil, err
	}
	if saved.Left != "" {
		left = append(left, saved.Left)
	}
	saved.Left = join(left)
	if base != nil && base.ours && base.tag == cmp.Or(m.exact(s.Write), m.tag(s.Write)) && sameChunks(t, base.table) {
		return saved, nil
	}
	return saved, s.write(ctx, m, t)
}

// pack stores what of a tree's tar is not known, and returns the table of all of it.
func (s *Shelf) pack(ctx context.Context, tree filetree.Tree, memory *Memory, known *table) (_ *Saved, _ *table, err error) {
	w, err := s.newPacker(ctx, known)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	plain := snapshot.Plain(tree)
	saved := &Saved{}
	cutter := newTarCutter(plain, memory, &saved.memory)
	cutter.keep, cutter.add = w.keep, w.add
	if err := cutter.run(w.ctx); err != nil {
		return nil, nil, err
	}
	t, err := w.finish()
	if err != nil {
		return nil, nil, err
	}
	saved.Size, saved.Sent, saved.Left = t.size, w.sent, plain.LeftOut()
	return saved, t, nil
}

// mayReplace fails if what is kept under the names of a mount is signed, and what would be written is not.
func (s *Shelf) mayReplace(ctx context.Context, m Mount) error {
	if s.Key != nil {
		return nil
	}
	for _, tag := range []string{m.exact(s.Write), m.tag(s.Write)} {
		if tag == "" {
			continue
		}
		doc, err := s.manifest(ctx, tag)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged):
		case err != nil:
			return err
		case doc.Annotations[annotationSignature] != "":
			return errSigned
		}
	}
	return nil
}

// errSigned keeps a signed directory from being replaced by one that those who insist on signatures would not take.
var errSigned = errors.New("what is kept there is signed, and this build has no --cache-key")

// sameChunks reports whether two tables are of the same tar and lie in the same packs.
func sameChunks(a, b *table) bool {
	if len(a.chunks) != len(b.chunks) || len(a.packs) != len(b.packs) {
		return false
	}
	for i := range a.chunks {
		x, y := &a.chunks[i], &b.chunks[i]
		if x.sum != y.sum || x.offset != y.offset || a.packs[x.pack].digest != b.packs[y.pack].digest {
			return false
		}
	}
	return true
}

// known are the chunks of a version that need not be stored again: those in packs that are still there, as far as is known as they should be,
// and not to be rewritten.
func (s *Shelf) known(ctx context.Context, base *Version) (*table, error) {
	if base == nil {
		return &table{}, nil
	}
	keep := base.table.worthKeeping()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * fetches)
	var mu sync.Mutex
	for i := range base.packs {
		if keep[i] = keep[i] && s.trusts(base.packs[i].Digest); !keep[i] {
			continue
		}
		g.Go(func() error {
			there, err := s.Place.Write.Exists(ctx, base.packs[i])
			mu.Lock()
			defer mu.Unlock()
			keep[i] = there
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := &table{packs: base.table.packs}
	for _, c := range base.table.chunks {
		if keep[c.pack] {
			t.chunks = append(t.chunks, c)
		}
	}
	return t, nil
}

// Packs are rewritten as log-structured trees are: of one that is half dead the live half is stored anew, one such pack a save,
// and packs of one size class become one pack when there are mergeAt of them. So each byte is stored again a few times at most,
// and the number of packs stays below mergeAt for each class and one for each packSize bytes.
const (
	packSize = 32 << 20
	mergeAt  = 8
)

// worthKeeping says of each pack whether its chunks stay where they are.
func (t *table) worthKeeping() []bool {
	keep := make([]bool, len(t.packs))
	classes := map[int][]int{}
	dead, least := -1, int64(50) // percent live
	for i := range t.packs {
		p := &t.packs[i]
		keep[i] = true
		if live := p.live * 100 / max(p.size, 1); live < least {
			dead, least = i, live
		}
		class := 0
		for size := int64(1 << 20); size < packSize && p.size >= size; size *= 4 {
			class++
		}
		if p.size < packSize/2 {
			classes[class] = append(classes[class], i)
		}
	}
	if dead >= 0 {
		keep[dead] = false
	}
	for _, packs := range classes {
		if len(packs) < mergeAt {
			continue
		}
		for _, i := range packs {
			keep[i] = false
		}
	}
	return keep
}

// A packer makes a table of a tar, and packs of what is new in it.
type packer struct {
	shelf   *Shelf
	ctx     context.Context
	cancel  context.CancelFunc
	have    map[sum]piece
	t       table
	frames  *image.FrameWriter
	frame   []byte
	pushing errgroup.Group
	cur     *openPack // nil before the first new chunk of a pack
	size    int64     // of a pack that is full
	sent    int64
}

func (s *Shelf) newPacker(ctx context.Context, known *table) (*packer, error) {
	frames, err := image.NewFrameWriter()
	w := &packer{shelf: s, frames: frames, have: make(map[sum]piece, len(known.chunks)), size: packSize}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.t.packs = append(w.t.packs, known.packs...)
	for _, c := range known.chunks {
		w.have[c.sum] = c
	}
	w.pushing.SetLimit(2)
	return w, err
}

// keep takes a chunk that is stored already, and reports whether it is.
func (w *packer) keep(s sum, size int64) bool {
	c, ok := w.have[s]
	if ok = ok && c.size == size; ok {
		w.t.size += size
		w.t.chunks = append(w.t.chunks, c)
	}
	return ok
}

// add takes a chunk, and stores it if it is new.
func (w *packer) add(s sum, data []byte) (err error) {
	if w.keep(s, int64(len(data))) {
		return nil
	}
	w.t.size += int64(len(data))
	if w.cur == nil {
		if w.cur, err = w.shelf.newPack(); err != nil {
			return err
		}
		w.t.packs = append(w.t.packs, pack{})
	}
	w.frame = w.frames.Append(w.frame[:0], data)
	c := piece{
		sum: s, pack: len(w.t.packs) - 1, offset: w.cur.size, length: int64(len(w.frame)), size: int64(len(data)),
	}
	if err := w.cur.write(w.frame); err != nil {
		return err
	}
	w.have[s] = c
	w.t.chunks = append(w.t.chunks, c)
	if w.cur.size >= w.size {
		return w.endPack()
	}
	return nil
}

// endPack has the pack stored that is being filled.
func (w *packer) endPack() error {
	p := w.cur
	w.cur = nil
	d := p.descriptor()
	w.t.packs[len(w.t.packs)-1] = pack{digest: d.Digest, size: d.Size}
	w.sent += d.Size
	w.size = max(packSize, w.t.size/(maxPacks/2)) // so that there are never too many
	w.pushing.Go(func() error {
		_, err := w.shelf.Place.Write.Push(w.ctx, d, p.content())
		return errors.Join(err, p.close())
	})
	return w.ctx.Err()
}

// finish waits until all packs are stored, and returns the table, with the packs that it needs.
func (w *packer) finish() (*table, error) {
	if w.cur != nil {
		if err := w.endPack(); err != nil {
			return nil, err
		}
	}
	if err := w.pushing.Wait(); err != nil {
		return nil, err
	}
	w.t.count()
	to := make([]int, len(w.t.packs))
	t := &table{size: w.t.size, chunks: w.t.chunks}
	for i, p := range w.t.packs {
		if to[i] = len(t.packs); p.live > 0 {
			t.packs = append(t.packs, p)
		}
	}
	for i := range t.chunks {
		t.chunks[i].pack = to[t.chunks[i].pack]
	}
	if len(t.packs) > maxPacks {
		return nil, fmt.Errorf("%d packs are more than %d", len(t.packs), maxPacks)
	}
	return t, nil
}

// close discards what was not stored.
func (w *packer) close() error {
	w.cancel()
	_ = w.pushing.Wait() // finish has told
	if w.cur == nil {
		return nil
	}
	return w.cur.close()
}
