package mounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/image"
)

const (
	fetches    = 4       // at a time
	wholeAbove = 60      // percent that have to be live for a pack to be fetched in one piece
	gap        = 1 << 20 // bytes that are fetched rather than asked for anew behind them
	maxRuns    = 8       // of a pack; the last has all the rest
)

// A download is what is fetched of the packs of a version. It is on disk, where memory keeps it if there is enough, until nobody needs it.
type download struct {
	files    []*packFile // nil for a pack that is not needed
	perPack  [][]*run
	fetching *errgroup.Group
	begun    chan struct{} // closed when all fetches have been

	mu    sync.Mutex // guards space
	space io.Writer  // is told of all that is fetched; fails when the disk is about to be full
}

// Write implements io.Writer.
func (d *download) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.space.Write(b)
}

// A packFile holds what is fetched of a pack, where it is in the pack.
type packFile struct {
	*image.StagedFile
	users atomic.Int64 // runs that are to be written, and chunks that are to be read
}

// leave is called by each user in the end. The last gives the disk back.
func (f *packFile) leave() error {
	if f.users.Add(-1) > 0 {
		return nil
	}
	return f.Close()
}

// download begins to fetch a version, until ctx is done.
func (s *Shelf) download(ctx context.Context, v *Version) (*download, error) {
	d := &download{files: make([]*packFile, len(v.packs)), perPack: make([][]*run, len(v.packs)), begun: make(chan struct{})}
	runs := v.table.runs()
	if !v.table.affords(runs) {
		return nil, fmt.Errorf("more than twice its %d bytes would be fetched", v.table.size)
	}
	for _, r := range runs {
		f := d.files[r.pack]
		if f == nil {
			staged, err := s.Staging.Create()
			if err != nil {
				return nil, errors.Join(err, d.close())
			}
			f = &packFile{StagedFile: staged}
			d.files[r.pack] = f
		}
		f.users.Add(1)
		r.file = f
		d.perPack[r.pack] = append(d.perPack[r.pack], r)
	}
	for i := range v.table.chunks {
		d.files[v.table.chunks[i].pack].users.Add(1)
	}
	d.fetching, ctx = errgroup.WithContext(ctx)
	d.fetching.SetLimit(fetches)
	d.space = s.Guard(ctx, io.Discard)
	go func() {
		defer close(d.begun)
		for _, r := range runs {
			d.fetching.Go(func() error { return errors.Join(r.end(s.fetch(ctx, v, r, d)), r.file.leave()) })
		}
	}()
	return d, nil
}

// wait waits until nothing comes any more, and returns why something did not.
func (d *download) wait() error {
	<-d.begun
	return d.fetching.Wait()
}

// close gives back what is left. Nothing is fetched or read any more.
func (d *download) close() error {
	var errs []error
	for _, f := range d.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// read reads the frame of a chunk, as soon as it has come, into a buffer that may be too small.
func (d *download) read(c *piece, frame []byte) ([]byte, error) {
	at := slices.IndexFunc(d.perPack[c.pack], func(r *run) bool { return r.from <= c.offset && c.offset+c.length <= r.to })
	if err := d.perPack[c.pack][at].wait(c.offset + c.length); err != nil {
		return frame, err
	}
	frame = slices.Grow(frame[:0], int(c.length))[:c.length]
	if _, err := d.files[c.pack].ReadAt(frame, c.offset); err != nil {
		return frame, err
	}
	return frame, d.files[c.pack].leave()
}

// A run is a stretch of a pack that is fetched in one piece.
type run struct {
	pack     int
	from, to int64
	file     *packFile

	mu      sync.Mutex // guards what is below
	arrived sync.Cond
	have    int64
	done    bool
	err     error
}

// affords reports whether the runs of a table are not so much more than its tar that only a forged one can need them.
func (t *table) affords(runs []*run) bool {
	left := 2*t.size + 64<<20
	for _, r := range runs {
		if r.to-r.from > left {
			return false
		}
		left -= r.to - r.from
	}
	return true
}

// runs are what has to be fetched, in the order in which it is needed first.
func (t *table) runs() []*run {
	perPack := make([][]piece, len(t.packs))
	var order []int
	for _, c := range t.chunks {
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
		if live*100 >= t.packs[i].size*wholeAbove {
			add(i, 0, t.packs[i].size)
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

// fetch writes a run to its file, so far as space takes the same bytes.
func (s *Shelf) fetch(ctx context.Context, v *Version, r *run, space io.Writer) (err error) {
	body, err := s.Place.Read.Fetch(ctx, v.packs[r.pack], r.from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	_, err = io.CopyBuffer(r, io.TeeReader(io.LimitReader(body, r.to-r.from), space), make([]byte, 128<<10))
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
