package mounts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/chunk"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

const (
	fetches    = 4       // at a time
	wholeAbove = 60      // percent that have to be live for a pack to be fetched in one piece
	gap        = 1 << 20 // bytes that are fetched rather than asked for anew behind them
	maxRuns    = 8       // of a pack; the last has all the rest
)

// A Restored is a directory that a version was written to.
type Restored struct {
	v     *Version
	parts map[partID]int64 // where each begins in the tar
}

// Remember writes a [Memory] of the directory into a file. Nobody has used the directory but who restored it when it was looked at, and the
// time of its [Clock] was quiet before.
func (r *Restored) Remember(path string, look Look, quiet int64) error {
	w := &memoryWriter{}
	for _, p := range look.parts {
		if at, ok := r.parts[p.key]; ok {
			p.at = at
			w.parts = append(w.parts, p)
		}
	}
	w.tableChunks(r.v.table)
	return w.write(path, quiet)
}

// Restore writes a version into an open directory, which is empty. It begins to write while the first packs come. After an error
// the directory holds a part of it.
func (s *Shelf) Restore(ctx context.Context, v *Version, dir *os.File) (_ *Restored, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files := make([]*image.StagedFile, len(v.packs)) // each with what is fetched of a pack, where it is in the pack
	defer func() {
		for _, f := range files {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	runs := v.runs()
	for _, r := range runs {
		if files[r.pack] == nil {
			if files[r.pack], err = s.Staging.Create(); err != nil {
				return nil, err
			}
		}
		r.file = files[r.pack]
	}
	fetching, fetchCtx := errgroup.WithContext(ctx)
	fetching.SetLimit(fetches)
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		for _, r := range runs {
			fetching.Go(func() error { return r.end(s.fetch(fetchCtx, v, r)) })
		}
	}()
	pr, pw := io.Pipe()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		pw.CloseWithError(v.assemble(runs, files, pw))
	}()
	restored := &Restored{v: v, parts: map[partID]int64{}}
	err = snapshot.Import(ctx, pr, dir, func(at int64, header []byte) {
		if len(restored.parts) < memoryParts {
			restored.parts[partKey(header)] = at
		}
	})
	if err != nil {
		cancel() // the fetches, which those who wait for them hear of
	}
	_ = pr.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
	<-begun
	fetchErr := fetching.Wait()
	<-reading
	if err != nil && fetchErr != nil && !errors.Is(fetchErr, context.Canceled) {
		return nil, fetchErr // the cause
	}
	return restored, err
}

// A run is a stretch of a pack that is fetched in one piece.
type run struct {
	pack     int
	from, to int64
	file     io.WriterAt // of the pack

	mu      sync.Mutex // guards what is below
	arrived sync.Cond
	have    int64
	done    bool
	err     error
}

// runs are what has to be fetched, in the order in which it is needed first.
func (v *Version) runs() []*run {
	perPack := make([][]piece, len(v.packs))
	var order []int
	for _, c := range v.table.chunks {
		if perPack[c.pack] == nil {
			order = append(order, c.pack)
		}
		perPack[c.pack] = append(perPack[c.pack], c)
	}
	var runs []*run
	add := func(pack int, from, to int64) *run {
		r := &run{pack: pack, from: from, to: to}
		r.arrived.L = &r.mu
		runs = append(runs, r)
		return r
	}
	for _, i := range order {
		live := int64(0)
		pieces := perPack[i]
		slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.offset, b.offset) })
		for k, c := range pieces {
			if k == 0 || c.offset != pieces[k-1].offset {
				live += c.length
			}
		}
		if live*100 >= v.packs[i].Size*wholeAbove {
			add(i, 0, v.packs[i].Size)
			continue
		}
		first := len(runs)
		for _, c := range pieces {
			if len(runs) == first || len(runs) < first+maxRuns && c.offset > runs[len(runs)-1].to+gap {
				add(i, c.offset, c.offset)
			}
			last := runs[len(runs)-1]
			last.to = max(last.to, c.offset+c.length)
		}
	}
	return runs
}

// fetch writes a run to its file.
func (s *Shelf) fetch(ctx context.Context, v *Version, r *run) (err error) {
	body, err := s.Place.Read.Fetch(ctx, v.packs[r.pack], r.from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	_, err = io.CopyBuffer(r, struct{ io.Reader }{io.LimitReader(body, r.to-r.from)}, make([]byte, 128<<10))
	return err
}

// Write takes the next bytes of a run.
func (r *run) Write(b []byte) (int, error) {
	n, err := r.file.WriteAt(b, r.from+r.have)
	r.mu.Lock()
	r.have += int64(n)
	r.mu.Unlock()
	r.arrived.Broadcast()
	return n, err
}

// end tells those who wait that no more comes.
func (r *run) end(err error) error {
	r.mu.Lock()
	if r.done = true; err == nil && r.have < r.to-r.from {
		err = io.ErrUnexpectedEOF
	}
	r.err = err
	r.mu.Unlock()
	r.arrived.Broadcast()
	return err
}

// wait returns when the pack has come up to an offset.
func (r *run) wait(to int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.from+r.have < to && !r.done {
		r.arrived.Wait()
	}
	if r.from+r.have < to {
		return cmp.Or(r.err, io.ErrUnexpectedEOF)
	}
	return nil
}

// assemble writes the tar, as far as its packs have come.
func (v *Version) assemble(runs []*run, files []*image.StagedFile, w io.Writer) error {
	perPack := make([][]*run, len(v.packs))
	for _, r := range runs {
		perPack[r.pack] = append(perPack[r.pack], r)
	}
	frames, err := image.NewFrameReader(chunk.MaxSize)
	if err != nil {
		return err
	}
	defer frames.Close()
	var frame, data []byte
	for i := range v.table.chunks {
		c := &v.table.chunks[i]
		at := slices.IndexFunc(perPack[c.pack], func(r *run) bool { return r.from <= c.offset && c.offset+c.length <= r.to })
		if err := perPack[c.pack][at].wait(c.offset + c.length); err != nil {
			return err
		}
		frame = slices.Grow(frame[:0], int(c.length))[:c.length]
		if _, err := files[c.pack].ReadAt(frame, c.offset); err != nil {
			return err
		}
		if data, err = frames.Append(data[:0], frame); err != nil {
			return fmt.Errorf("pack %s: %w", v.packs[c.pack].Digest, err)
		}
		if int64(len(data)) != c.size || sha256.Sum256(data) != c.sum {
			return fmt.Errorf("pack %s: chunk %d: %w", v.packs[c.pack].Digest, i, image.ErrMismatch)
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}
