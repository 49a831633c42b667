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
	ahead   = 1 << 20 // bytes of the blob that are fetched in one piece, if what is there has not come yet
	maxSkip = 8 << 20
)

// Open reads the table of contents of a layer whose blob has so many bytes. Until ctx ends it is read by fetch. What comes is kept in file, which is
// empty. failed is told why something cannot be read: who reads it gets an I/O error.
func Open(ctx context.Context, size int64, toc digest.Digest, fetch Fetch, file *os.File, failed func(error)) (*Layer, error) {
	raw, end, err := table(ctx, size, toc, fetch)
	if err != nil {
		return nil, err
	}
	l := &Layer{ctx: ctx, fetch: fetch, file: file, failed: failed}
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
			return 0, err
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
	run := []int{i}
	for k := i + 1; k < len(l.chunks) && l.chunks[k].from >= l.chunks[k-1].from && l.chunks[k].to-l.chunks[i].from <= ahead && !l.has(k); k++ {
		if _, first := l.flights.Of(k); !first {
			break
		}
		run = append(run, k)
	}
	return l.bringAll(run)
}

func (l *Layer) has(i int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.here[i]
}

// bringAll fetches chunks that follow one another in one piece. It returns what is wrong with the first.
func (l *Layer) bringAll(run []int) error {
	from, to := l.chunks[run[0]].from, l.chunks[run[len(run)-1]].to
	body, err := l.fetch(l.ctx, from, to)
	var frame []byte // the one at from
	firstErr := err
	for n, i := range run {
		c := &l.chunks[i]
		if err == nil && (frame == nil || c.from != from) {
			frame = make([]byte, c.to-c.from)
			from = c.from
			_, err = io.ReadFull(body, frame)
		}
		chunkErr := err
		if err == nil {
			chunkErr = l.keep(c, frame)
		}
		l.land(i, chunkErr)
		if n == 0 {
			firstErr = chunkErr
		}
	}
	if body != nil {
		firstErr = errors.Join(firstErr, body.Close())
	}
	return firstErr
}

// keep unpacks a chunk into the file, and holds it to its digest.
func (l *Layer) keep(c *chunk, frame []byte) error {
	unpacked, err := gzip.NewReader(bytes.NewReader(frame))
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, unpacked, c.skip); err != nil {
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
