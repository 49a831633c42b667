package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// Options of a [Cache]. Near is needed.
type Options struct {
	Near   cache.Cache          // of this machine: what it answers, no place is asked
	Memory *cache.Store[[]byte] // of what was read of places; nil remembers nothing
	Read   []*Scope             // the most trusted first
	Write  []*Target
	Key    *Signer // signs what is written; nil signs nothing
	Trust  Trust
	Events event.Sink // takes warnings and notes, from any goroutine; may be nil
}

// A Target is a scope that is written to.
type Target struct {
	*Scope
	OnlyImage bool // keep no layer that is not the image's (docker's mode=min)
}

// A Cache is a near cache before far ones. It is a [cache.Cache], and remembers what a build has used and made. Safe for concurrent use.
type Cache struct {
	o      Options
	reader reader
	dice   func(n int64) int64 // a random number below n

	staleOnce, freshOnce sync.Once
	stale                []*shelf // valid after its Once; by Options.Read

	mu      sync.Mutex // guards all below
	shelves []*shelf   // nil until the places have answered; by Options.Read
	own     []*shelf   // that were read or written after the build, the last first
	used    map[cache.Key]*Record
	places  map[digest.Digest]*answered // by blob: layers that a place has answered with
	lost    map[digest.Digest]bool      // blobs that could not be had
}

// answered is a layer that a place has answered with.
type answered struct {
	place *Place
	key   cache.Key
	entry cache.Entry
}

// Budget is how long a build waits for what places say, at its start and before it fetches something else of them.
const Budget = 2 * time.Second

// New returns a cache. It asks for nothing yet.
func New(o Options) *Cache {
	return &Cache{
		o: o, reader: reader{o.Memory, o.Trust}, dice: rand.Int64N,
		used: map[cache.Key]*Record{}, places: map[digest.Digest]*answered{}, lost: map[digest.Digest]bool{},
	}
}

// Get asks the near cache, then what is remembered of places, and then the places.
func (c *Cache) Get(ctx context.Context, k cache.Key) (cache.Entry, bool, error) {
	e, ok, err := c.Near(ctx, k)
	if ok {
		return e, true, nil
	}
	r, scope := c.look(ctx, k)
	if r == nil || r.IsValue() {
		return cache.Entry{}, false, err
	}
	e = r.entry()
	e.Place = scope.String()
	c.use(*r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places[r.Layer.Blob.Digest] = &answered{scope.Place, k, e}
	return e, true, nil
}

// Near asks the near cache alone.
func (c *Cache) Near(ctx context.Context, k cache.Key) (cache.Entry, bool, error) {
	e, ok, err := c.o.Near.Get(ctx, k)
	if ok {
		c.use(Record{Key: k, Layer: e.Layer, Name: e.Name, Created: e.Created, Cost: e.Duration})
	}
	return e, ok, err
}

// use notes that the build made use of a record.
func (c *Cache) use(r Record) {
	r.Used = today(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[r.Key] = &r
}

// Put remembers an entry near, and for the places that are written to.
func (c *Cache) Put(ctx context.Context, k cache.Key, e cache.Entry) error {
	c.use(Record{Key: k, Layer: e.Layer, Name: e.Name, Created: e.Created, Cost: e.Duration})
	return c.o.Near.Put(ctx, k, e)
}

// Nearest asks the near cache: fields, which may hold what nobody else should know, do not travel.
func (c *Cache) Nearest(ctx context.Context, name string, fields []cache.Field) (cache.Entry, bool, error) {
	return c.o.Near.Nearest(ctx, name, fields)
}

// look finds a record in what is known of places, and asks them if it is not there.
func (c *Cache) look(ctx context.Context, k cache.Key) (*Record, *Scope) {
	c.staleOnce.Do(func() {
		for _, scope := range c.o.Read {
			c.stale = append(c.stale, c.reader.remembered(ctx, scope))
		}
	})
	if r, scope := c.find(c.stale, k); r != nil {
		return r, scope
	}
	c.ask(ctx)
	return c.find(c.answers(), k)
}

// answers is what the places have said; nil if they were not asked.
func (c *Cache) answers() []*shelf {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shelves
}

func (c *Cache) find(shelves []*shelf, k cache.Key) (*Record, *Scope) {
	for _, s := range shelves {
		if r := s.find(k); r != nil && !c.isLost(r.Layer.Blob.Digest) {
			return r, s.scope
		}
	}
	return nil, nil
}

func (c *Cache) isLost(d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost[d]
}

// Prefetch asks the places at once, for a machine that knows nothing. It returns before they answer; end waits until they have.
func (c *Cache) Prefetch(ctx context.Context) (end func()) {
	var wg sync.WaitGroup
	wg.Go(func() { c.ask(ctx) })
	return wg.Wait
}

// ask asks the places, once. All that cannot be had in the time of the budget is told, once, and done without.
func (c *Cache) ask(ctx context.Context) {
	c.freshOnce.Do(func() {
		ctx, cancel := context.WithTimeoutCause(ctx, Budget, fmt.Errorf("no answer within %s", Budget))
		defer cancel()
		shelves := make([]*shelf, len(c.o.Read))
		var g errgroup.Group
		for i, scope := range c.o.Read {
			g.Go(func() error {
				s := c.reader.fresh(ctx, scope)
				if s.err != nil && context.Cause(ctx) != nil {
					s.err = context.Cause(ctx)
				}
				shelves[i] = s
				return nil
			})
		}
		_ = g.Wait() // the errors are in the shelves
		c.mu.Lock()
		c.shelves = shelves
		c.mu.Unlock()
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return // the build has ended
		}
		told := map[string]bool{}
		for _, s := range shelves {
			if s.err == nil || told[s.scope.Place.Name] {
				continue
			}
			told[s.scope.Place.Name] = true
			c.say(event.Warning, "cache %s: %v; the build goes on without it", s.scope, s.err)
		}
	})
}

func (c *Cache) say(kind event.Kind, format string, args ...any) {
	c.o.Events.Send(event.Event{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// Absent says of each place why it has no answer to a key.
func (c *Cache) Absent(k cache.Key, name string) []string {
	reasons := c.o.Near.Absent(k, name)
	for _, s := range c.answers() {
		switch {
		case s.err != nil && len(s.tables) == 0:
			reasons = append(reasons, fmt.Sprintf("cache %s does not answer: %v", s.scope, s.err))
		case s.index == nil:
			reasons = append(reasons, fmt.Sprintf("cache %s holds nothing yet", s.scope))
		default:
			reasons = append(reasons, c.unlike(s, k, name))
		}
	}
	return reasons
}

// unlike says what a shelf has instead of the answer to a key.
func (c *Cache) unlike(s *shelf, k cache.Key, name string) string {
	if r := s.find(k); r != nil {
		return fmt.Sprintf("cache %s has the answer, but its layer is gone", s.scope)
	}
	var nearest *Record
	for _, t := range s.tables {
		for i := range t.records {
			if r := &t.records[i]; r.Name == clip(name, maxName) && !r.IsValue() && (nearest == nil || newer(r, nearest)) {
				nearest = r
			}
		}
	}
	if nearest == nil {
		return fmt.Sprintf("cache %s has %d answers, none of them to a step of this name", s.scope, s.records())
	}
	return fmt.Sprintf("cache %s knows a step of this name, of %s, which stood on or read something else",
		s.scope, nearest.Created.Format(time.DateTime))
}

// A LostError means that a layer which a place has answered with cannot be had. Whoever forgets it can build again.
type LostError struct {
	Layer image.Layer
	Place string
	Err   error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("cache %s: layer %s: %v", e.Place, e.Layer.DiffID, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Holder is the place that has answered with a layer; nil if none has.
func (c *Cache) Holder(l image.Layer) *Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.places[l.Blob.Digest]; a != nil {
		return a.place
	}
	return nil
}

// Held are the blobs that the place with a repository has answered with.
func (c *Cache) Held(r image.Reference) (blobs []digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, a := range c.places {
		if p := a.place.Repository; p.Domain == r.Domain && p.Path == r.Path {
			blobs = append(blobs, d)
		}
	}
	return blobs
}

// Here has the near cache remember the answers whose layers are on this machine now.
func (c *Cache) Here(ctx context.Context, layers []image.Layer) {
	for _, l := range layers {
		c.mu.Lock()
		a := c.places[l.Blob.Digest]
		c.mu.Unlock()
		if a != nil {
			_ = c.o.Near.Put(ctx, a.key, a.entry) // else it is asked for again
		}
	}
}

// Forget makes a miss of what a layer that cannot be had was the answer to.
func (c *Cache) Forget(lost *LostError) {
	text := "is gone"
	if !errors.Is(lost.Err, fs.ErrNotExist) {
		text = lost.Err.Error()
	}
	c.say(event.Warning, "cache %s: layer %s: %s; its step is done again", lost.Place, lost.Layer.DiffID, text)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[lost.Layer.Blob.Digest] = true
	delete(c.places, lost.Layer.Blob.Digest)
	for k, r := range c.used {
		if r.Layer.Blob.Digest == lost.Layer.Blob.Digest {
			delete(c.used, k)
		}
	}
}

// Values are digests of files in layers, near and far: a step that copies from another is known without the layers of that.
type Values struct {
	Far  *Cache
	Near *cache.Store[string]
}

// Get finds a value: near, or else far.
func (v *Values) Get(ctx context.Context, k cache.Key) (string, bool, error) {
	value, ok, err := v.Near.Get(ctx, k)
	if !ok {
		r, _ := v.Far.look(ctx, k)
		if r == nil || !r.IsValue() {
			return "", false, err
		}
		value = r.Value
		_ = v.Near.Put(ctx, k, value) // else it is asked for again
	}
	v.Far.use(Record{Key: k, Value: value, Created: time.Unix(0, 0).UTC()})
	return value, true, nil
}

// Put remembers a value, near and for the places that are written to.
func (v *Values) Put(ctx context.Context, k cache.Key, value string) error {
	v.Far.use(Record{Key: k, Value: value, Created: time.Unix(0, 0).UTC()})
	return v.Near.Put(ctx, k, value)
}
