// Package lazy reads layers from where they are while they are used: those in the form eStargz, whose files are compressed one by one and which end
// with a table of contents (github.com/containerd/stargz-snapshotter, docs/estargz.md).
//
// The manifest of an image has the digest of each layer's table, and the table has the digest of each piece of a file. Nothing is believed that does
// not match.
package lazy

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/flight"
	"github.com/forge-build/forge/snapshot/layertar"
)

// Fetch opens the bytes of a blob from one offset up to another.
type Fetch func(ctx context.Context, from, to int64) (io.ReadCloser, error)

// A Layer gives what its files hold when it is read. Safe for concurrent use.
type Layer struct {
	ctx     context.Context // of what is fetched
	fetch   Fetch
	file    *os.File // what has come, where it is in the layer; the rest is holes
	headers []layertar.Header
	chunks  []chunk // by at
	size    int64
	failed  func(error)

	slots   chan struct{}            // of fetches
	flights flight.Group[int, error] // of chunks that are on their way

	mu   sync.Mutex // guards here
	here []bool     // chunks that are in file
}

// A chunk is a piece of a file that is compressed by itself.
type chunk struct {
	at, size int64 // where it is in the layer
	from, to int64 // where it is in the blob, compressed
	skip     int64 // bytes before it, uncompressed
	sum      [sha256.Size]byte
}

const (
	ahead     = 1 << 20  // bytes of the blob that are fetched in one piece, if what is there has not come yet
	runBytes  = 16 << 20 // that are unpacked then
	runChunks = 1024     // that come then
	maxSkip   = 8 << 20
	fetches   = 32 // of a layer at a time
)

// Open reads the table of contents of a layer whose blob has so many bytes, by fetch. What is read later does not depend on ctx. It is kept in file,
// which is empty. failed is told why something cannot be read: who reads it gets an I/O error.
func Open(ctx context.Context, size int64, toc digest.Digest, fetch Fetch, file *os.File, failed func(error)) (*Layer, error) {
	raw, end, err := table(ctx, size, toc, fetch)
	if err != nil {
		return nil, err
	}
	l := &Layer{ctx: context.WithoutCancel(ctx), fetch: fetch, file: file, failed: failed, slots: make(chan struct{}, fetches)}
	if err := l.parse(raw, end); err != nil {
		return nil, err
	}
	l.here = make([]bool, len(l.chunks))
	return l, file.Truncate(l.size)
}

// Size is how many bytes ReadAt can give: those of all files, each begins at a multiple of 512.
func (l *Layer) Size() int64 { return l.size }

// Headers tells entry of each file, with its offset in what ReadAt gives, and forgets them.
func (l *Layer) Headers(entry func(*layertar.Header) error) error {
	list := l.headers
	l.headers = nil
	for i := range list {
		if err := entry(&list[i]); err != nil {
			return fmt.Errorf("%.300q: %w", list[i].Path, err)
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt. It fetches what has not come yet.
func (l *Layer) ReadAt(p []byte, off int64) (int, error) {
	i := sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i].at+l.chunks[i].size > off })
	for ; i < len(l.chunks) && l.chunks[i].at < off+int64(len(p)); i++ {
		if err := l.bring(i); err != nil {
			l.failed(err)
			return 0, fmt.Errorf("%w: %s", unix.EIO, err.Error()) // not what err wraps, for io.EOF would be the end of a file
		}
	}
	if i > 1 && i < len(l.chunks) && l.chunks[i-1].size >= ahead && l.has(i-2) && !l.has(i) { // somebody reads a large file from its beginning on
		go func() { _ = l.bring(i) }() // who needs it is told
	}
	return l.file.ReadAt(p, off)
}

// bring waits until a chunk has come, fetching it unless somebody does.
func (l *Layer) bring(i int) error {
	if l.has(i) {
		return nil
	}
	f, first := l.flights.Of(i)
	if !first {
		err, waitErr := f.Wait(l.ctx)
		return errors.Join(err, waitErr)
	}
	if l.has(i) { // it landed in between, and what has come is never written again
		l.land(i, nil)
		return nil
	}
	return l.bringAll(i, l.run(i))
}

// run takes on the chunks behind one that is to be fetched, as long as they have not come and it does not take long. It returns where they end.
func (l *Layer) run(i int) (end int) {
	first := &l.chunks[i]
	unpacked, to := first.skip+first.size, max(first.to, first.from+ahead)
	for end = i + 1; end < len(l.chunks) && end-i < runChunks && l.chunks[end].to <= to; end++ {
		more, ok := l.behind(end)
		if unpacked += more; !ok || unpacked > runBytes {
			break
		}
		if _, first := l.flights.Of(end); !first {
			break
		}
		if l.has(end) { // which nobody can change now
			l.land(end, nil)
			break
		}
	}
	return end
}

// behind reports whether a chunk is read right after the one before it, and how much more is unpacked then.
func (l *Layer) behind(k int) (more int64, ok bool) {
	before, c := &l.chunks[k-1], &l.chunks[k]
	if c.from == before.from {
		more = c.skip + c.size - before.skip - before.size
		return more, more >= c.size
	}
	return c.skip + c.size, c.from == before.to
}

func (l *Layer) has(i int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.here[i]
}

// bringAll fetches chunks that follow one another in one piece, up to one that is not fetched. It returns what is wrong with the first.
func (l *Layer) bringAll(i, end int) (firstErr error) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	body, err := l.fetch(l.ctx, l.chunks[i].from, l.chunks[end-1].to)
	if err == nil {
		defer func() { firstErr = errors.Join(firstErr, body.Close()) }()
	}
	frame := &io.LimitedReader{R: body} // what is compressed by itself
	var unpacked gzip.Reader            // of frame
	for k := i; k < end; k++ {
		c, skip := &l.chunks[k], l.chunks[k].skip
		if before := &l.chunks[max(i, k-1)]; k > i && before.from == c.from {
			skip -= before.skip + before.size
		} else if err == nil {
			if _, err = io.Copy(io.Discard, frame); err == nil { // the rest of the frame before
				frame.N = c.to - c.from
				_ = unpacked.Reset(frame) // who reads from it gets the error as well
			}
		}
		chunkErr := err
		if err == nil {
			chunkErr = l.keep(c, skip, &unpacked)
		}
		l.land(k, chunkErr)
		if k == i {
			firstErr = chunkErr
		}
	}
	return firstErr
}

// keep writes a chunk into the file, which follows so many bytes in what is unpacked, and holds it to its digest.
func (l *Layer) keep(c *chunk, skip int64, unpacked io.Reader) error {
	if _, err := io.CopyN(io.Discard, unpacked, skip); err != nil {
		return err
	}
	sum := sha256.New()
	to := io.MultiWriter(io.NewOffsetWriter(l.file, c.at), sum)
	if _, err := io.CopyN(to, unpacked, c.size); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), c.sum[:]) {
		return fmt.Errorf("bytes %d to %d of the blob do not have the digest %x", c.from, c.to, c.sum)
	}
	return nil
}

// land tells those who wait for a chunk.
func (l *Layer) land(i int, err error) {
	if err == nil {
		l.mu.Lock()
		l.here[i] = true
		l.mu.Unlock()
	}
	if f := l.flights.Take(i); f != nil {
		f.Land(err)
	}
}
