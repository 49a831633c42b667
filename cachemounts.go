package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/cache/mounts"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/source"
)

// MountOptions say how the directories of cache mounts are kept where the steps' results are. Nothing is kept unless a place for those
// was named.
type MountOptions struct {
	Keys  []string      // patterns of files in the context: a mount that was left with the same ones is preferred to the newest
	Limit int64         // bytes of one directory that are kept; 0 is 2 GB, negative keeps none and fetches none
	Time  time.Duration // that all may take to be kept, after the build; 0 is a minute
}

const (
	mountLimit = 2_000_000_000
	mountTime  = time.Minute
	slowSize   = 50_000_000 // bytes whose fetching takes so long that people are told before
)

// A mountKeeper fetches cache mounts during a build, and keeps them after it. Nothing that fails in it is the build's: it is told.
type mountKeeper struct {
	home    *Home
	options BuildOptions
	src     *source.Source

	open func() ([]*mounts.Shelf, error) // where to look, the one to write to first; once
	lock func() string                   // the digest of the files that the mounts depend on; once

	mu   sync.Mutex // guards used
	used map[string]usedMount
}

// A usedMount is the directory of a mount that a step has used.
type usedMount struct {
	mount mounts.Mount
	dir   string
}

// mountKeeper is what fetches and keeps the cache mounts of a build, nil for one that keeps no cache elsewhere.
func (h *Home) mountKeeper(ctx context.Context, o BuildOptions, src *source.Source) *mountKeeper {
	named := o.Cache != "" && o.Cache != "none" || len(o.From) > 0 || len(o.To) > 0
	if !named || o.Mounts.Limit < 0 {
		return nil
	}
	k := &mountKeeper{home: h, options: o, src: src, used: map[string]usedMount{}}
	k.open = sync.OnceValues(func() ([]*mounts.Shelf, error) { return h.shelves(ctx, o) })
	k.lock = sync.OnceValue(func() string { return k.digestKeys(ctx) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keepers = append(h.keepers, k)
	return k
}

// shelves are the places of a build's caches, as places of mounts: those that are written first. Those that cannot be opened are an error
// beside the others.
func (h *Home) shelves(ctx context.Context, o BuildOptions) (shelves []*mounts.Shelf, err error) {
	s := farSettings{home: h, options: o, client: o.cacheClient(), job: jobOf(os.Getenv, o.Context), places: map[string]*remote.Place{}}
	if err := s.keys(); err != nil {
		return nil, err
	}
	spec, asked := cacheNamed(o.Cache)
	write, read := s.job.Scopes(cmp.Or(o.Scope, asked))
	specs := slices.Concat(o.To, o.From)
	if o.Cache != "" && o.Cache != "none" {
		specs = slices.Insert(specs, 0, spec)
	}
	var errs []error
	for i, spec := range specs {
		if spec.Type == "inline" {
			continue
		}
		place, err := s.open(ctx, spec)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, web.ErrOffline) {
				errs = append(errs, err)
			}
			continue
		}
		if i >= len(specs)-len(o.From) || o.ReadOnly {
			read := *place
			read.Write, place = nil, &read
		}
		shelves = append(shelves, &mounts.Shelf{
			Place: place, Staging: h.staging, Guard: h.Layout.Guard, Read: read, Write: write, Key: s.remote.Key, Trust: s.remote.Trust,
		})
	}
	return shelves, errors.Join(errs...)
}

// cacheNamed is the place that --cache names, and the scope in it: REPOSITORY[:SCOPE], or the address of a server.
func cacheNamed(s string) (spec CacheSpec, scope string) {
	if IsServer(s) {
		return CacheSpec{Type: "reapi", Attrs: map[string]string{"url": s}}, ""
	}
	path := 0 // where it begins
	if i := strings.IndexByte(s, '/'); i >= 0 && isHost(s[:i]) {
		path = i
	}
	if i := strings.IndexByte(s[path:], ':'); i >= 0 {
		s, scope = s[:path+i], s[path+i+1:] // which may have colons and slashes
	}
	return CacheSpec{Type: "registry", Attrs: map[string]string{"ref": s}}, scope
}

// isHost reports whether what is before the first slash of a name can be HOST[:PORT].
func isHost(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return true
	}
	port := s[i+1:]
	return port != "" && strings.Trim(port, "0123456789") == "" && (s[0] == '[' || !strings.Contains(s[:i], ":"))
}

// warn tells what went wrong with a mount, which is not the build's fault.
func (k *mountKeeper) warn(m mounts.Mount, what string, err error) {
	k.options.Events.Send(event.Event{
		Time: time.Now(), Kind: event.Warning, Text: fmt.Sprintf("cache mount %s: %s: %v", m.ID, what, err),
	})
}

func (k *mountKeeper) note(m mounts.Mount, text string) {
	k.options.Events.Send(event.Event{Time: time.Now(), Kind: event.Note, Text: "cache mount " + m.ID + ": " + text})
}

// mount is what a cache is known by elsewhere.
func (k *mountKeeper) mount(m *container.Cache) mounts.Mount {
	return mounts.Mount{ID: m.ID, Platform: m.Platform, Access: m.Identity(), Lock: k.lock()}
}

// Fill implements [container.CacheKeeper].
func (k *mountKeeper) Fill(ctx context.Context, c *container.Cache, dir *os.File) bool {
	m := k.mount(c)
	shelves, err := k.open()
	if err != nil {
		k.warn(m, "begins empty", err)
	}
	for _, shelf := range shelves {
		if k.fillFrom(ctx, shelf, m, dir) {
			return true
		}
	}
	return false
}

func (k *mountKeeper) fillFrom(ctx context.Context, shelf *mounts.Shelf, m mounts.Mount, dir *os.File) bool {
	start := time.Now()
	var restored *mounts.Restored
	v, err := shelf.FindInTime(ctx, m)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil && v.Size() > k.limit() {
		err = fmt.Errorf("it has %s, more than the limit of %s (--cache-mount-size)", units.HumanSize(float64(v.Size())), units.HumanSize(float64(k.limit())))
	}
	if err == nil {
		if v.Size() > slowSize {
			k.note(m, fmt.Sprintf("fetching %s from %s (%s)", units.HumanSize(float64(v.Size())), shelf.Place.Name, v.Scope))
		}
		restored, err = shelf.Restore(ctx, v, dir)
	}
	if err != nil {
		k.warn(m, "not fetched from "+shelf.Place.Name, err)
		return false
	}
	k.note(m, fmt.Sprintf("%s from %s (%s) in %s", units.HumanSize(float64(v.Size())), shelf.Place.Name, v.Scope, time.Since(start).Round(time.Second/10)))
	k.rememberRestored(ctx, shelf, m, dir, restored)
	return true
}

// rememberRestored writes down what was restored, and as what, so that what stays as it is is not kept again. What cannot be written down is
// read once more.
func (k *mountKeeper) rememberRestored(ctx context.Context, shelf *mounts.Shelf, m mounts.Mount, dir *os.File, restored *mounts.Restored) {
	beside := filepath.Dir(dir.Name())
	look, err := restored.Look(ctx, dir)
	if err != nil {
		return
	}
	quiet, err := mounts.Clock(beside)
	for wait := time.Millisecond; err == nil && quiet <= look.Changed && wait < 50*time.Millisecond; wait *= 2 {
		time.Sleep(wait) // until the clock has ticked
		quiet, err = mounts.Clock(beside)
	}
	if err != nil {
		return
	}
	_ = restored.Remember(filepath.Join(beside, memoryFile), look, quiet)
	if look.Changed < quiet {
		k.remember(beside, shelf, m, look.Fingerprint)
	}
}

func (k *mountKeeper) limit() int64 {
	if k.options.Mounts.Limit > 0 {
		return k.options.Mounts.Limit
	}
	return mountLimit
}

// Used implements [container.CacheKeeper].
func (k *mountKeeper) Used(_ context.Context, c *container.Cache, dir string) {
	m := k.mount(c)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used[dir+" "+m.Platform] = usedMount{m, dir}
}

// digestKeys is the digest of the files of the context that the keys name.
func (k *mountKeeper) digestKeys(ctx context.Context) string {
	tree, ok := k.src.Trees[""]
	if !ok || len(k.options.Mounts.Keys) == 0 {
		return ""
	}
	sum, err := source.DigestNamed(ctx, tree, k.options.Mounts.Keys)
	if err != nil {
		k.options.Events.Send(event.Event{Time: time.Now(), Kind: event.Warning, Text: "--cache-mount-key: " + err.Error()})
	}
	return sum
}

// KeepMounts keeps what builds have left in their cache mounts, so far as it can in the time that their options give. It is to be called
// after people have been told of the builds; what it does it tells events. Without it nothing is kept.
func (h *Home) KeepMounts(ctx context.Context, events event.Sink) {
	h.mu.Lock()
	keepers := h.keepers
	h.keepers = nil
	h.mu.Unlock()
	for _, k := range keepers {
		k.options.Events = events
		k.keepAll(ctx)
	}
}

// keepAll keeps what the build has left.
func (k *mountKeeper) keepAll(ctx context.Context) {
	if len(k.used) == 0 {
		return
	}
	shelves, _ := k.open() // Fill has told
	at := slices.IndexFunc(shelves, func(s *mounts.Shelf) bool { return s.Place.Write != nil })
	if at < 0 {
		return
	}
	if shelves[at].Silent() || shelves[at].Trust != nil && shelves[at].Key == nil {
		return // as was told; or nobody who trusts as this build does would take what it keeps
	}
	shelf, limit := shelves[at], k.options.Mounts.Time
	if limit <= 0 {
		limit = mountTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done in %s (--cache-mount-time)", limit))
	defer cancel()
	for _, u := range k.used {
		if err := k.keep(ctx, shelf, u); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if errors.Is(err, fs.ErrPermission) { // as it is meant to be, in a pull request's job
				k.note(u.mount, shelf.Place.Name+" is only read here")
				continue
			}
			k.warn(u.mount, "not kept in "+shelf.Place.Name, err)
		}
	}
}

// keep keeps one directory, unless it is as it was when it was last fetched or kept, or in use.
func (k *mountKeeper) keep(ctx context.Context, shelf *mounts.Shelf, u usedMount) (err error) {
	lock, quiet, err := lockMount(u.dir)
	if errors.Is(err, flock.ErrHeld) || errors.Is(err, fs.ErrNotExist) {
		return nil // the build that has it keeps it; or it was pruned
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	dir, err := os.Open(filepath.Join(u.dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	look, err := mounts.LookAt(ctx, dir)
	if err != nil {
		return err
	}
	if raw, err := os.ReadFile(filepath.Join(u.dir, keptFile)); err == nil && string(raw) == keptAs(shelf, u.mount, look.Fingerprint) {
		return nil
	}
	memory := filepath.Join(u.dir, memoryFile)
	saved, err := shelf.Save(ctx, u.mount, mounts.Dir{File: dir, Look: look, Memory: mounts.ReadMemory(memory)}, k.limit())
	if err != nil {
		return err
	}
	if saved.Left != "" {
		k.options.Events.Send(event.Event{
			Time: time.Now(), Kind: event.Warning, Text: "cache mount " + u.mount.ID + ": not kept: " + saved.Left,
		})
	}
	k.note(u.mount, fmt.Sprintf("kept in %s (%s): %s of %s sent", shelf.Place.Name, shelf.Write,
		units.HumanSize(float64(saved.Sent)), units.HumanSize(float64(saved.Size))))
	if quiet == 0 {
		return nil
	}
	_ = saved.Remember(memory, quiet) // else its files are read once more
	if look.Changed < quiet {
		k.remember(u.dir, shelf, u.mount, look.Fingerprint)
	}
	return nil
}

// lockMount locks the directory of a cache mount, so that nobody takes it away. quiet is a time at which nobody used it; 0 if others
// do so now.
func lockMount(dir string) (lock *os.File, quiet int64, err error) {
	path := filepath.Join(dir, "lock")
	lock, err = flock.TryLock(path, flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) {
		lock, err = flock.TryLock(path, flock.Shared)
		return lock, 0, err
	}
	if err != nil {
		return nil, 0, err
	}
	if quiet, err = mounts.Clock(dir); err == nil {
		err = flock.Try(lock, flock.Shared)
	}
	if err == nil && !flock.Same(lock) { // it was given up for a moment
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, errors.Join(err, lock.Close())
	}
	return lock, quiet, nil
}

// memoryFile, beside the data of a cache mount, is a [mounts.Memory] of it.
const memoryFile = "chunks"

// keptFile, beside the data of a cache mount, says as what and where it was last fetched or kept.
const keptFile = "kept"

// keptAs is the content of that file.
func keptAs(shelf *mounts.Shelf, m mounts.Mount, fingerprint string) string {
	raw, _ := json.Marshal(struct{ Place, Scope, Platform, Lock, Files string }{
		shelf.Place.Name, shelf.Write, m.Platform, m.Lock, fingerprint,
	})
	return string(raw)
}

func (k *mountKeeper) remember(dir string, shelf *mounts.Shelf, m mounts.Mount, sum string) {
	_ = durable.ReplaceFile(filepath.Join(dir, keptFile), []byte(keptAs(shelf, m, sum)), 0o600) // else it is looked at once more
}
