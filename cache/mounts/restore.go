package mounts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/forge-build/forge/cache/chunk"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// A Restored is a directory that a version was written to.
type Restored struct {
	v      *Version
	looker *looker
	at     map[partID]int64 // where each part begins in the tar
	other  bool             // some files are not what was seen when they were written
}

// Look is [LookAt] the directory, as it was left.
func (r *Restored) Look(ctx context.Context, dir *os.File) (Look, error) {
	if r.other {
		return LookAt(ctx, dir)
	}
	return r.looker.end(), nil
}

// Remember writes a [Memory] of the directory into a file. Nobody has used the directory but who restored it when it was looked at, and the
// time of its [Clock] was quiet before.
func (r *Restored) Remember(path string, look Look, quiet int64) error {
	w := &memoryWriter{}
	for _, p := range look.parts {
		if at, ok := r.at[p.key]; ok {
			p.at = at
			w.parts = append(w.parts, p)
		}
	}
	w.tableChunks(r.v.table)
	return w.write(path, quiet)
}

// Restore writes a version into an open directory, in the place of what is there: another place may have left a part of another version.
// Packs come, chunks are checked and files are written side by side. After an error the directory holds a part of it.
func (s *Shelf) Restore(ctx context.Context, v *Version, dir *os.File) (_ *Restored, err error) {
	if err := empty(dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d, err := s.download(ctx, v)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	r := v.chunks(ctx, d)
	restored := &Restored{v: v, looker: newLooker(), at: map[partID]int64{}}
	err = snapshot.Import(ctx, r, dir, restored.part)
	cancel() // what nobody needs, or those who wait for it do not hear of it
	fetchErr := d.wait()
	r.wait()
	if errors.Is(err, image.ErrMismatch) || errors.Is(fetchErr, image.ErrMismatch) {
		s.distrust(v)
	}
	if err != nil && fetchErr != nil && !errors.Is(fetchErr, context.Canceled) {
		return nil, fetchErr // the cause
	}
	return restored, err
}

// empty removes what is in a directory.
func empty(dir *os.File) (err error) {
	root, err := os.OpenRoot(dir.Name())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := root.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// part notes what was written.
func (r *Restored) part(p *snapshot.Imported) {
	r.looker.part(p.Header, &p.File, p.Content)
	if len(r.at) < memoryParts {
		r.at[partKey(p.Header)] = p.At
	}
	r.other = r.other || p.Other
}

// unpackers are how many chunks are made ready at a time.
const unpackers = 2

// A chunkReader reads the tar of a version. Each chunk is made ready by one of the unpackers, in turn.
type chunkReader struct {
	unpackers [unpackers]unpacker
	next      int // chunk
	left      []byte
	all       sync.WaitGroup
}

// An unpacker makes each so-many-th chunk ready: it waits until that has come, unpacks it, and holds it to its digest.
type unpacker struct {
	ready chan []byte // valid until the next is taken
	err   error       // for who finds the channel closed
}

// chunks begins to make the chunks of a download ready, until ctx is done.
func (v *Version) chunks(ctx context.Context, d *download) *chunkReader {
	r := &chunkReader{}
	for i := range r.unpackers {
		u := &r.unpackers[i]
		u.ready = make(chan []byte)
		r.all.Go(func() {
			u.err = u.run(ctx, v, d, i)
			close(u.ready)
		})
	}
	return r
}

// wait waits until nothing is done any more.
func (r *chunkReader) wait() { r.all.Wait() }

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		u := &r.unpackers[r.next%unpackers]
		data, ok := <-u.ready
		if !ok {
			return 0, cmp.Or(u.err, io.EOF)
		}
		r.left = data
		r.next++
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (u *unpacker) run(ctx context.Context, v *Version, d *download, first int) error {
	frames, err := image.NewFrameReader(chunk.MaxSize)
	if err != nil {
		return err
	}
	defer frames.Close()
	var frame []byte
	var room [2][]byte // who has taken one may still read it while the other is filled
	for i := first; i < len(v.table.chunks); i += unpackers {
		c := &v.table.chunks[i]
		if frame, err = d.read(c, frame); err != nil {
			return err
		}
		data, err := frames.Append(room[0][:0], frame)
		if err != nil {
			return fmt.Errorf("pack %s: chunk %d: %w: %w", v.packs[c.pack].Digest, i, image.ErrMismatch, err)
		}
		if int64(len(data)) != c.size || sha256.Sum256(data) != c.sum {
			return fmt.Errorf("pack %s: chunk %d: %w", v.packs[c.pack].Digest, i, image.ErrMismatch)
		}
		select {
		case u.ready <- data:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		room[0], room[1] = room[1], data
	}
	return nil
}
