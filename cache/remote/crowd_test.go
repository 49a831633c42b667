package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// counting is a store as one machine sees it: how often that wrote a name is counted.
type counting struct {
	*store
	writes atomic.Int64
}

func (c *counting) PushManifest(ctx context.Context, r image.Reference, d ocispec.Descriptor, raw []byte) error {
	if r.Tag != "" {
		c.writes.Add(1)
	}
	return c.store.PushManifest(ctx, r, d, raw)
}

// dice are random numbers that a seed decides.
type dice struct {
	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

func (d *dice) roll(n int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Int64N(n)
}

// A crowd is jobs that write one scope within a time, to a registry that takes between 10 and 30 ms for a request and, one time in
// stalls, 250 ms.
type crowd struct {
	jobs   int
	within time.Duration
	stalls int64
	seed   uint64
}

// tally is how the rounds of a crowd went.
type tally struct {
	writes int64 // of names
	often  int   // jobs that wrote more than three names
	lost   int   // answers that a machine that asks afterwards does not know
}

// write has the jobs write.
func (c crowd) write(t *testing.T, sum *tally) {
	s := newStore()
	luck := dice{rand: rand.New(rand.NewPCG(c.seed, 0))}
	s.err = func(string) error {
		took := 10*time.Millisecond + time.Duration(luck.roll(int64(20*time.Millisecond)))
		if c.stalls > 0 && luck.roll(c.stalls) == 0 {
			took = 250 * time.Millisecond
		}
		time.Sleep(took)
		return nil
	}
	var wg sync.WaitGroup
	stores := make([]counting, c.jobs)
	for i := range stores {
		stores[i].store = s
		p := &Place{Name: "reg/app", Read: &stores[i], Write: &stores[i], Tags: s}
		m := newMachine(t, p, "main", func(o *Options) { o.Memory = nil })
		own := dice{rand: rand.New(rand.NewPCG(c.seed, uint64(i)+1))}
		m.dice = own.roll
		wg.Go(func() {
			time.Sleep(time.Duration(own.roll(int64(max(c.within, 1))))) // steps take a while
			if err := m.keep(t.Context(), layerRecord(s, fmt.Sprint(i))); err != nil {
				t.Errorf("seed %d, job %d: %v", c.seed, i, err)
			}
		})
	}
	wg.Wait()
	s.err = nil
	reader := newMachine(t, s.place(), "main", nil)
	for i := range stores {
		n := stores[i].writes.Load()
		sum.writes += n
		if n > 3 {
			sum.often++
		}
		if !reader.knows(t, layerRecord(s, fmt.Sprint(i))) {
			sum.lost++
		}
	}
	s.resolves(t, ScopeTag("main"))
}

// TestManyJobs: jobs write one scope at once. Nothing is lost, and jobs write at most three names, but for one in a thousand. Without
// compare-and-swap there is no more than likelihood; the seeds are fixed, FORGE_TEST_SEEDS says how many of them are tried.
func TestManyJobs(t *testing.T) {
	t.Parallel()
	seeds, _ := strconv.Atoi(os.Getenv("FORGE_TEST_SEEDS"))
	seeds = max(seeds, 3)
	for _, c := range []crowd{
		{jobs: 50, within: 5 * time.Second},
		{jobs: 50, within: 0},
		{jobs: 50, within: 5 * time.Second, stalls: 20},
		{jobs: 5, within: 100 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(c.jobs, " in ", c.within, ", stalls ", c.stalls), func(t *testing.T) {
			t.Parallel()
			var sum tally
			for seed := range seeds {
				c.seed = uint64(seed)
				synctest.Test(t, func(t *testing.T) { c.write(t, &sum) })
			}
			all := seeds * c.jobs
			t.Logf("%d jobs: %.2f writes each, %d with more than three, %d lost", all, float64(sum.writes)/float64(all), sum.often, sum.lost)
			if sum.lost > all/1000 || sum.often > 1+all/1000 {
				t.Errorf("%d answers are lost, and %d jobs of %d wrote more than three names", sum.lost, sum.often, all)
			}
		})
	}
}

// TestLanesClose: what a crowd has left in lanes is put together by who comes later, and what was in them then counts for nothing.
func TestLanesClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		tag := ScopeTag("main")
		// Two writers come into the lanes, another one closes them.
		open := newMachine(t, s.place(), "main", nil)
		if err := open.keep(t.Context(), layerRecord(s, "a")); err != nil {
			t.Fatal(err)
		}
		x := s.resolves(t, tag)
		x.open, x.listed = true, false
		raw, d, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		s.blobs[d.Digest], s.tags[tag] = raw, d
		for _, name := range []string{"b", "c"} {
			if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), layerRecord(s, name)); err != nil {
				t.Fatal(err)
			}
		}
		if x := s.resolves(t, tag); !x.open || len(x.segments) != 1 {
			t.Fatalf("the index was written, want two lanes: %+v", x)
		}
		if infos, err := List(t.Context(), s.place()); err != nil || len(infos) != 1 || infos[0].Records != 3 {
			t.Errorf("%+v, %v; want one scope of 3 records", infos, err)
		}
		time.Sleep(laneIdle)
		if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), layerRecord(s, "d")); err != nil {
			t.Fatal(err)
		}
		if x := s.resolves(t, tag); x.open || x.epoch != 1 || x.totals().Records != 4 {
			t.Errorf("open %t, epoch %d, %d records, want closed, 1, 4", x.open, x.epoch, x.totals().Records)
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			if !newMachine(t, s.place(), "main", nil).knows(t, layerRecord(s, name)) {
				t.Errorf("%s is not known", name)
			}
		}
	})
}

// TestListLeavesPartsOut: lanes and later indexes are no scopes of their own, whatever the tag of the scope is; another scope whose name
// only looks so is one.
func TestListLeavesPartsOut(t *testing.T) {
	t.Parallel()
	s := newStore()
	for tag, scope := range map[string]string{"main-forge": "main", "main-forge-l1f": "main", "main-forge-t0123": "main", "main-forge-l2": "main-forge-l2"} {
		raw, d, err := (&index{scope: scope}).encode()
		if err != nil {
			t.Fatal(err)
		}
		s.blobs[d.Digest], s.tags[tag] = raw, d
	}
	infos, err := List(t.Context(), s.place())
	if err != nil || len(infos) != 2 || infos[0].Tag != "main-forge" || infos[1].Tag != "main-forge-l2" {
		t.Errorf("%+v, %v; want main-forge and main-forge-l2", infos, err)
	}
}

// TestLanesAreBounded: a place whose lanes hold more than any crowd leaves is believed in part.
func TestLanesAreBounded(t *testing.T) {
	t.Parallel()
	s := newStore()
	tag := ScopeTag("main")
	for n := range lanes {
		x := &index{scope: "main"}
		for i := range maxSegments {
			name := fmt.Sprint(n, " ", i)
			x.segments = append(x.segments, segment{
				d:     ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 1},
				table: ocispec.Descriptor{MediaType: typeTable, Digest: digest.FromString("table " + name), Size: 1},
			})
		}
		raw, d, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		s.blobs[d.Digest], s.tags[laneTag(tag, n)] = raw, d
	}
	found, err := inLanes(t.Context(), &Scope{Place: s.place(), Name: "main"}, tag, &index{})
	if err != nil || len(found) != maxInLanes {
		t.Errorf("%d segments, %v; want %d", len(found), err, maxInLanes)
	}
}
