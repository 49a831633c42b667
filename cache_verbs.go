package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/cache/far"
	"github.com/forge-build/forge/cache/mounts"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// SharedCacheOptions say how a cache of a place is asked. The zero value is right for people.
type SharedCacheOptions struct {
	RemoteOptions
	Scope      string // "" is that of the name, or the branch's
	Key, Trust string // as those of CacheOptions
	CompressionOptions
}

// A SharedCacheInfo says what a place keeps under a scope.
type SharedCacheInfo struct {
	remote.Info
	Mounts []SharedMount `json:"mounts,omitempty"`
}

// A SharedMount is a cache mount that a place keeps.
type SharedMount = mounts.Info

// A SharedAnswer is a record of a scope.
type SharedAnswer = remote.Record

// sharedCache opens the cache that a name stands for: REPOSITORY[:SCOPE], or docker's type=TYPE and attributes.
func (h *Home) sharedCache(ctx context.Context, name string, o SharedCacheOptions) (*farCache, error) {
	s := farSettings{
		home: h,
		options: BuildOptions{
			RemoteOptions: o.RemoteOptions,
			ReuseOptions:  ReuseOptions{CacheOptions: CacheOptions{Scope: o.Scope, Key: o.Key, Trust: o.Trust}},
		},
		client: o.cacheClient(),
		job:    jobOf(os.Getenv, "."), places: map[string]*remote.Place{},
	}
	err := s.keys()
	switch {
	case err != nil:
	case strings.Contains(name, "="):
		err = s.specified(ctx, name)
	default:
		err = s.repository(ctx, name, o.CompressionOptions)
	}
	if err != nil {
		return nil, err
	}
	s.remote.Near, s.remote.Memory, s.remote.Events = h.Cache, h.remotes, o.Events
	return &farCache{Cache: remote.New(s.remote), client: s.client, targets: s.targets, end: func() {}}, nil
}

// specified reads and writes the place of a specification.
func (s *farSettings) specified(ctx context.Context, text string) error {
	spec, err := far.ParseBoth(text)
	if err != nil {
		return err
	}
	place, err := s.open(ctx, spec)
	if err != nil {
		return err
	}
	c, err := compressionOf(spec)
	for _, scope := range spec.Scopes(place) {
		s.remote.Read = append(s.remote.Read, scope)
		s.targets = append(s.targets, farTarget{&remote.Target{Scope: scope}, c, 0})
	}
	return err
}

// SharedCaches lists the scopes that a place keeps.
func (h *Home) SharedCaches(ctx context.Context, name string, o SharedCacheOptions) ([]SharedCacheInfo, error) {
	far, err := h.sharedCache(ctx, name, o)
	if err != nil {
		return nil, err
	}
	defer far.Close() //nolint:errcheck // of idle connections
	infos, err := remote.List(ctx, far.targets[0].Place)
	if err != nil {
		return nil, err
	}
	kept, err := mounts.List(ctx, far.targets[0].Place)
	if err != nil {
		return nil, err
	}
	return withMounts(infos, kept), nil
}

// withMounts puts scopes and the mounts of each together, by the names of the scopes.
func withMounts(infos []remote.Info, kept []SharedMount) (all []SharedCacheInfo) {
	for _, info := range infos {
		all = append(all, SharedCacheInfo{Info: info})
	}
	for _, m := range kept {
		at := slices.IndexFunc(all, func(i SharedCacheInfo) bool { return i.Scope == m.Scope })
		if at < 0 {
			at = len(all)
			all = append(all, SharedCacheInfo{Info: remote.Info{Scope: m.Scope}})
		}
		all[at].Mounts = append(all[at].Mounts, m)
	}
	slices.SortStableFunc(all, func(a, b SharedCacheInfo) int { return strings.Compare(a.Scope, b.Scope) })
	return all
}

// mountsOf are the mounts of a scope; all of a place whose name docker's flags have chosen, since scopes of mounts are branches there,
// too; none if the place cannot be listed.
func mountsOf(ctx context.Context, scope *remote.Scope) ([]SharedMount, error) {
	kept, err := mounts.List(ctx, scope.Place)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if !slices.Contains(scope.Tags, remote.ScopeTag(scope.Name)) {
		return kept, err
	}
	return slices.DeleteFunc(kept, func(m SharedMount) bool { return m.Scope != scope.Name }), err
}

// SharedCache reads what a scope holds. Parts that cannot be read or believed are told, and left out.
func (h *Home) SharedCache(ctx context.Context, name string, o SharedCacheOptions) (SharedCacheInfo, []SharedAnswer, error) {
	far, err := h.sharedCache(ctx, name, o)
	if err != nil {
		return SharedCacheInfo{}, nil, err
	}
	defer far.Close() //nolint:errcheck // of idle connections
	return h.readShared(ctx, far, name, o)
}

// readShared reads the scope that was asked for; a pull request, which has one of its own to write, may look at others.
func (h *Home) readShared(ctx context.Context, far *farCache, name string, o SharedCacheOptions) (SharedCacheInfo, []SharedAnswer, error) {
	scope := far.targets[0].Scope
	if _, asked := cacheNamed(name); cmp.Or(o.Scope, asked) != "" && !strings.Contains(name, "=") {
		scope = scopeOf(scope.Place, cmp.Or(o.Scope, asked))
	}
	info, records, err := far.Records(ctx, scope)
	kept, mountsErr := mountsOf(ctx, scope)
	all := SharedCacheInfo{Info: info, Mounts: kept}
	all.Scope = scope.Name
	switch err = errors.Join(err, mountsErr); {
	case info.Tag == "" && err == nil && len(kept) > 0:
	case info.Tag == "" && err == nil:
		return all, nil, fmt.Errorf("cache %s: holds nothing: %w", scope, fs.ErrNotExist)
	case info.Tag == "":
		return all, nil, fmt.Errorf("cache %s: %w", scope, err)
	case err != nil:
		o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("cache %s: %v", scope, err)})
	}
	return all, records, nil
}

// PushCache keeps in a place what this machine remembers and the place does not know, and returns how many answers that were.
func (h *Home) PushCache(ctx context.Context, name string, o SharedCacheOptions) (n int, err error) {
	defer queue(&o.Events)()
	far, err := h.sharedCache(ctx, name, o)
	if err != nil {
		return 0, err
	}
	defer far.Close() //nolint:errcheck // of idle connections
	steps, err := h.Cache.List()
	if err != nil {
		return 0, err
	}
	for _, r := range steps {
		if _, _, err := far.Near(ctx, r.Key); err != nil {
			return 0, err
		}
	}
	values, err := h.digests.List()
	if err != nil {
		return 0, err
	}
	known := &remote.Values{Far: far.Cache, Near: h.digests}
	for _, r := range values {
		if r.Damaged {
			continue
		}
		if err := known.Put(ctx, r.Key, r.Value); err != nil {
			return 0, err
		}
	}
	result := &BuildResult{images: &resolver{home: h, far: far, remote: o.RemoteOptions, arrivals: &arrivals{}}}
	for _, t := range far.targets {
		added, err := h.saveTo(ctx, result, t, nil)
		if err != nil {
			return n, fmt.Errorf("cache %s: %w", t.Scope, err)
		}
		n += added
	}
	return n, nil
}

// PullCache brings the answers of a scope to this machine, with their layers, and returns how many that were.
func (h *Home) PullCache(ctx context.Context, name string, o SharedCacheOptions) (n int, err error) {
	defer queue(&o.Events)()
	far, err := h.sharedCache(ctx, name, o)
	if err != nil {
		return 0, err
	}
	defer far.Close() //nolint:errcheck // of idle connections
	_, records, err := h.readShared(ctx, far, name, o)
	if err != nil {
		return 0, err
	}
	images, known := &resolver{home: h, far: far, remote: o.RemoteOptions, arrivals: &arrivals{}}, &remote.Values{Far: far.Cache, Near: h.digests}
	for _, r := range records {
		if r.IsValue() {
			value, ok, err := known.Get(ctx, r.Key)
			if err == nil && !ok {
				continue
			}
			if err == nil {
				err = h.digests.Put(ctx, r.Key, value) // which a build does without
			}
			if err != nil {
				return n, err
			}
			n++
			continue
		}
		e, ok, err := far.Get(ctx, r.Key)
		if err != nil {
			return n, err
		}
		if !ok {
			continue
		}
		err = images.FetchLayers(ctx, []image.Layer{e.Layer})
		if lost, ok := errors.AsType[*remote.LostError](err); ok && ctx.Err() == nil {
			o.Events.Send(event.Event{Kind: event.Warning, Text: lost.Error()})
			continue
		}
		if err == nil && e.Place != "" {
			err = h.Cache.Put(ctx, r.Key, e) // which a build does without
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// PruneCacheOptions say what a prune of a scope forgets; the zero value forgets the answers that no build has used for 30 days, All does all
// of them, unless a filter says since when. Cache mounts, of which it is not known when they were used, are forgotten if they are older than
// what a filter says, or else if all are.
type PruneCacheOptions struct {
	SharedCacheOptions
	All   bool
	Prune PruneOptions // its Filters and MaxSize
}

// retention is what stays of the answers. Of when they were used the day is known: one that may have been used since stays.
func (o *PruneCacheOptions) retention() remote.Retention {
	const day = 24 * time.Hour
	keep := remote.DefaultRetention()
	switch {
	case o.Prune.until > 0:
		keep.Unused = int((o.Prune.until + day - 1) / day)
	case o.All:
		keep.Unused = -1
	}
	switch {
	case o.Prune.maxSize > 0 && o.Prune.until > 0: // both have to hold: what was used since stays, and of the rest what has room
		keep.Bytes, keep.Kept, keep.Unused = o.Prune.maxSize, keep.Unused, remote.DefaultRetention().Unused
	case o.Prune.maxSize > 0:
		keep.Bytes = o.Prune.maxSize
	case o.Prune.maxSize == 0 && o.Prune.until == 0: // which is no bound to a retention
		keep.Unused = -1
	}
	return keep
}

// A PrunedCache is what has gone of a scope.
type PrunedCache struct {
	remote.Pruned
	Mounts      int   // that went
	MountsBytes int64 // of their packs
}

// PruneCache forgets answers of a scope. Their layers go when the registry collects what nothing leads to.
func (h *Home) PruneCache(ctx context.Context, name string, o PruneCacheOptions) (PrunedCache, error) {
	if err := o.Prune.Check(); err != nil {
		return PrunedCache{}, err
	}
	keep := o.retention()
	far, err := h.sharedCache(ctx, name, o.SharedCacheOptions)
	if err != nil {
		return PrunedCache{}, err
	}
	defer far.Close() //nolint:errcheck // of idle connections
	var p PrunedCache
	if p.Pruned, err = far.Prune(ctx, far.targets[0].Target, keep); err == nil && (o.All || o.Prune.until > 0) {
		var since time.Time
		if o.Prune.until > 0 {
			since = time.Now().Add(-o.Prune.until)
		}
		err = p.forgetMounts(ctx, far.targets[0].Scope, since)
	}
	if err != nil {
		err = fmt.Errorf("cache %s: %w", far.targets[0].Scope, err)
	}
	return p, err
}

// forgetMounts forgets the mounts of a scope that were not written since, or all if that is zero, whatever clocks say.
func (p *PrunedCache) forgetMounts(ctx context.Context, scope *remote.Scope, since time.Time) error {
	kept, err := mountsOf(ctx, scope)
	for _, m := range kept {
		if !since.IsZero() && m.Written.After(since) {
			continue
		}
		if err := mounts.Forget(ctx, scope.Place, m); err != nil {
			return fmt.Errorf("cache mount %s: %w", m.ID, err)
		}
		p.Mounts++
		p.MountsBytes += m.Packed
	}
	return err
}
