package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

// Limits of the tables of a scope that are read. The newest are read; what is older is not known then. A record is some 100 bytes as it
// travels, 220 without compression, and 400 in memory; a place that lies can make thousands of times as much of what travels.
const (
	maxFetched  = 2 << 20  // bytes that a build fetches, as they travel
	maxUnpacked = 32 << 20 // bytes without compression
	maxRecords  = 100_000
)

var errTooMuch = errors.New("the segments have more records than are read")

// readTables reads the tables of a shelf's segments, fetching at most so many bytes. Tables that cannot be read or believed are left out,
// and the first reason is returned.
func (r *reader) readTables(ctx context.Context, s *shelf, fetch int64) error {
	tables, errs := r.tables(ctx, s.scope, s.index.segments, fetch)
	for _, t := range tables {
		if t != nil {
			s.tables = append(s.tables, t)
		}
	}
	bad := 0
	for _, err := range errs {
		if err != nil {
			bad++
		}
	}
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%d of %d segments are left out: %w", bad, len(errs), err)
		}
	}
	return nil
}

// tables reads the tables of segments, the newest of which comes first, fetching at most so many bytes. The table is nil of a segment that
// cannot be read, which has an error, or is beyond the limits, which has none.
func (r *reader) tables(ctx context.Context, scope *Scope, segments []segment, fetch int64) ([]*table, []error) {
	tables := make([]*table, len(segments))
	known := r.known(ctx, segments)
	fetched, errs := r.fetch(ctx, scope, segments, known, fetch)
	size, records := maxUnpacked, maxRecords
	for i := range segments {
		frame := known[i]
		if frame == nil {
			frame = fetched[i]
		}
		if frame == nil {
			continue
		}
		raw, err := decompress(frame)
		if size -= len(raw); size < 0 {
			break
		}
		if err == nil {
			tables[i], err = r.open(raw, scope)
		}
		if errs[i] = err; err != nil {
			continue
		}
		if records -= len(tables[i].records); records < 0 {
			tables[i] = nil
			break
		}
		if fetched[i] != nil && r.memory != nil {
			_ = r.memory.Put(ctx, memoOf(segments[i].table), frame)
		}
	}
	return tables, errs
}

// known are tables as they travel that need not be fetched: those in the index, and what this machine remembers.
func (r *reader) known(ctx context.Context, segments []segment) [][]byte {
	frames := make([][]byte, len(segments))
	left := maxUnpacked // they are no longer than what they hold, but for some bytes
	for i, seg := range segments {
		frame := seg.inline
		if frame == nil && r.memory != nil {
			frame, _, _ = r.memory.Get(ctx, memoOf(seg.table))
		}
		if left -= len(frame); left < 0 {
			break
		}
		frames[i] = frame
	}
	return frames
}

// fetch gets tables that are not known as they travel, the first of them, up to so many bytes.
func (r *reader) fetch(ctx context.Context, scope *Scope, segments []segment, known [][]byte, most int64) ([][]byte, []error) {
	frames, errs := make([][]byte, len(segments)), make([]error, len(segments))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range segments {
		if known[i] != nil {
			continue
		}
		if most -= segments[i].table.Size; most < 0 {
			break
		}
		g.Go(func() error {
			frames[i], errs[i] = readBlob(gctx, scope.Place.Read, segments[i].table)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return frames, errs
}

func memoOf(d ocispec.Descriptor) cache.Key { return sha256.Sum256([]byte("table\x00" + d.Digest)) }

// open reads a table that is not compressed, and makes sure that it may be believed.
func (r *reader) open(raw []byte, scope *Scope) (*table, error) {
	if err := r.trust.check(raw, scope.bound()); err != nil {
		return nil, err
	}
	return decodeTable(raw)
}

// readBlob reads a table as it travels.
func readBlob(ctx context.Context, src image.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxTableFrame {
		return nil, errTable
	}
	return image.ReadSmall(ctx, src, d)
}
