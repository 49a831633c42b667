package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
)

// maxSizeVariable names the variable that bounds the store.
const maxSizeVariable = "FORGE_MAX_SIZE"

// maxSize is how large the store may be after a build, in bytes; 0 is no bound.
func maxSize() (int64, error) {
	text := os.Getenv(maxSizeVariable)
	if text == "" {
		return 0, nil
	}
	n, err := container.ParseSize(text)
	if err == nil && n <= 0 {
		err = errors.New("must be more than 0")
	}
	if err != nil {
		return 0, fmt.Errorf("%s=%s: %w", maxSizeVariable, text, err)
	}
	return n, nil
}

// keepBelow removes what is of least use until the store has at most limit bytes: first garbage, then layers that only the
// cache has, the least recently used first, then directories of cache mounts. Images that have a name and what running
// processes use, this one included, stay. What was built is built: what cannot be removed is a warning.
func (h *Home) keepBelow(ctx context.Context, limit int64, events event.Sink) {
	if limit == 0 || ctx.Err() != nil {
		return
	}
	before, after, err := h.shrink(ctx, limit, events)
	say := func(kind event.Kind, format string, args ...any) {
		events.Send(event.Event{Time: time.Now(), Kind: kind, Text: fmt.Sprintf(format, args...)})
	}
	size := func(n int64) string { return units.HumanSize(float64(n)) }
	if before > after {
		say(event.Note, "removed %s of the store to keep it below %s (%s)", size(before-after), size(limit), maxSizeVariable)
	}
	switch {
	case err != nil:
		say(event.Warning, "the store could not be kept below %s (%s): %v", size(limit), maxSizeVariable, err)
	case after > limit:
		say(event.Warning, "the store has %s, more than %s (%s): what is left has a name or is in use; forge rmi removes images",
			size(after), size(limit), maxSizeVariable)
	}
}

func (h *Home) shrink(ctx context.Context, limit int64, events event.Sink) (before, after int64, err error) {
	if before, err = h.size(); err != nil || before <= limit {
		return before, before, err
	}
	after = before
	mounts := func(_ context.Context, need int64) error {
		_, err := h.dropCacheMounts(need)
		return err
	}
	for _, step := range []func(ctx context.Context, need int64) error{
		func(context.Context, int64) error { return nil }, h.forgetLayers, mounts,
	} {
		if err := step(ctx, after-limit); err != nil {
			return before, after, err
		}
		var r PruneReport
		if err := h.collect(ctx, PruneOptions{Events: events}, &r); err != nil {
			return before, after, err
		}
		if after, err = h.size(); err != nil || after <= limit {
			break
		}
	}
	return before, after, err
}

// size is what the store takes of the disk, in bytes, but for what running processes are writing.
func (h *Home) size() (n int64, err error) {
	for _, dir := range []string{"images", "snapshots", "mounts", "partial"} {
		k, err := treeUsage(filepath.Join(h.Dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		n += k.Bytes
	}
	return n, nil
}

// forgetLayers forgets the least recently used entries of the cache, until layers of need bytes are garbage. Entries whose
// layers something else keeps stay, since nothing is won by forgetting them.
func (h *Home) forgetLayers(ctx context.Context, need int64) error {
	records, err := h.Cache.List()
	if err != nil {
		return err
	}
	reached, err := h.Layout.Reached(ctx)
	if err != nil {
		return err
	}
	holders := map[digest.Digest]int{}
	for _, r := range records {
		holders[r.Value.Layer.DiffID]++
	}
	for _, r := range records {
		layer := r.Value.Layer
		if need <= 0 {
			break
		}
		if layer.DiffID == "" || reached[layer.DiffID] || reached[layer.Blob.Digest] {
			continue
		}
		if err := h.Cache.Remove(r.Key); err != nil {
			return err
		}
		if holders[layer.DiffID]--; holders[layer.DiffID] > 0 {
			continue
		}
		for _, d := range slices.Compact([]digest.Digest{layer.DiffID, layer.Blob.Digest}) {
			if info, err := os.Lstat(h.Layout.BlobPath(d)); err == nil {
				need -= info.Size()
			}
		}
	}
	return nil
}
