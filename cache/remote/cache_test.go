package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

func TestTravels(t *testing.T) {
	t.Parallel()
	s := newStore()
	a, b := layerRecord(s, "a"), layerRecord(s, "b")
	value := Record{Key: keyOf("v"), Value: "digests", Created: time.Unix(0, 0).UTC()}
	if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), a, b, value); err != nil {
		t.Fatal(err)
	}
	other := newMachine(t, s.place(), "main", nil)
	if !other.knows(t, a) || !other.knows(t, b) {
		t.Error("another machine does not know what was kept")
	}
	near, err := cache.OpenStore[string](t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if v, ok, err := (&Values{other.Cache, near}).Get(t.Context(), value.Key); v != "digests" || !ok || err != nil {
		t.Errorf("value %q, %t, %v", v, ok, err)
	}
	if other.Holder(a.Layer) == nil || other.Holder(image.Layer{}) != nil {
		t.Error("the place of a layer is not known, or that of another is")
	}
	if e, ok, _ := other.Get(t.Context(), keyOf("c")); ok {
		t.Errorf("it knows what nobody kept: %+v", e)
	}
	if why := other.Absent(keyOf("c"), "RUN a"); len(why) != 1 || !strings.Contains(why[0], "knows a step of this name") {
		t.Errorf("why %q", why)
	}
	// Nothing new is nothing to write.
	puts := s.puts
	if err := other.keep(t.Context(), a, b); err != nil || s.puts != puts {
		t.Errorf("what is there was written again: %v", err)
	}
	s.resolves(t, ScopeTag("main"))
}

// TestScopes: a branch reads main, main does not read a branch.
func TestScopes(t *testing.T) {
	t.Parallel()
	s := newStore()
	ofMain, ofBranch := layerRecord(s, "main"), layerRecord(s, "branch")
	main := newMachine(t, s.place(), "main", nil)
	branch := func() *machine {
		return newMachine(t, s.place(), "pr:7", func(o *Options) { o.Read = append(o.Read, scope(s.place(), "main")) })
	}
	if err := main.keep(t.Context(), ofMain); err != nil {
		t.Fatal(err)
	}
	one := branch()
	if !one.knows(t, ofMain) {
		t.Error("a pull request does not read main")
	}
	if err := one.keep(t.Context(), ofMain, ofBranch); err != nil {
		t.Fatal(err)
	}
	if x := s.resolves(t, ScopeTag("pr:7")); x.totals().Records != 1 {
		t.Errorf("the pull request keeps %d records, want only what main has not", x.totals().Records)
	}
	if !branch().knows(t, ofBranch) || newMachine(t, s.place(), "main", nil).knows(t, ofBranch) {
		t.Error("the next job of the pull request does not know it, or main does")
	}
}

// TestFaults are the rows of the failure table: what is read of a place that fails, and what is told.
func TestFaults(t *testing.T) {
	t.Parallel()
	key, trust := signer(t, 1)
	denied := fmt.Errorf("denied: %w", fs.ErrPermission)
	for _, test := range []struct {
		name   string
		spoil  func(s *store)
		change func(*Options)
		knows  bool
		told   string // "" is nothing
		keeps  string // the error of writing; "" is none
		deaf   bool   // what it writes is not known, or nothing is written
	}{
		{name: "all is well", knows: true},
		{name: "the place knows nothing", spoil: func(s *store) { s.tags = map[string]ocispec.Descriptor{} }},
		{name: "reading is denied", spoil: fail("resolve", denied), told: "denied", deaf: true},
		{name: "writing is denied", spoil: fail("push", denied), knows: true, keeps: "denied"},
		{name: "the place is in trouble", spoil: fail("resolve", errTest), told: "the build goes on without it", deaf: true},
		{name: "a table is not what it was", spoil: spoilTables, told: "left out"},
		{name: "a table of a later version", spoil: func(s *store) { rewrite(s, func(raw []byte) { raw[4] = 2 }) }, told: "newer than this forge"},
		{name: "a table without its magic", spoil: func(s *store) { rewrite(s, func(raw []byte) { raw[0] = 'X' }) }, told: "is not a table"},
		{name: "signed by nobody", change: func(o *Options) { o.Trust = trust }, told: "no trusted key", deaf: true},
		{name: "signed by oneself", change: func(o *Options) { o.Key, o.Trust = key, Trust{}.With(key) }, told: "no trusted key"},
		{name: "an image has the name", spoil: func(s *store) { other(s, ocispec.MediaTypeImageConfig) }, told: "holds an image, which is left alone", deaf: true},
		{name: "BuildKit has the name", spoil: func(s *store) { other(s, "application/vnd.buildkit.cacheconfig.v0") }, told: "holds a BuildKit cache", deaf: true},
		{name: "unknown types are refused", spoil: fail("put segment  "+typeTable, image.ErrRefused), knows: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore()
			a, b := layerRecord(s, "a"), layerRecord(s, "b")
			if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if test.spoil != nil {
				test.spoil(s)
			}
			m := newMachine(t, s.place(), "main", test.change)
			if m.knows(t, a) != test.knows {
				t.Errorf("known: %t, want %t", !test.knows, test.knows)
			}
			m.knows(t, b)
			if told := m.events(); (told == "") != (test.told == "") || !strings.Contains(told, test.told) || strings.Count(told, "\n") > 0 {
				t.Errorf("told %q, want one line with %q", told, test.told)
			}
			err := m.keep(t.Context(), b)
			if (err == nil) != (test.keeps == "") || err != nil && !strings.Contains(err.Error(), test.keeps) {
				t.Errorf("keeping: %v, want %q", err, test.keeps)
			}
			s.mu.Lock()
			s.err = nil
			s.mu.Unlock()
			if err == nil && newMachine(t, s.place(), "main", test.change).knows(t, b) == test.deaf {
				t.Error("what was kept is not known")
			}
		})
	}
}

// fail makes what begins like this fail.
func fail(what string, err error) func(*store) {
	return func(s *store) {
		s.err = func(doing string) error {
			if strings.HasPrefix(doing, what) {
				return err
			}
			return nil
		}
	}
}

// other gives the name to something of another program.
func other(s *store, config string) {
	d := ocispec.Descriptor{MediaType: config, Size: 2}
	d.Digest = descriptor(config, []byte("{}")).Digest
	s.blobs[d.Digest] = []byte("{}")
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`,
		ocispec.MediaTypeImageManifest, config, d.Digest)
	m := descriptor(ocispec.MediaTypeImageManifest, raw)
	s.blobs[m.Digest] = raw
	s.tags[ScopeTag("main")] = m
}

// spoilTables makes nonsense of the tables, and has them fetched.
func spoilTables(s *store) {
	change(s, func(seg *segment) {
		seg.inline = nil
		s.blobs[seg.table.Digest] = []byte(strings.Repeat("x", int(seg.table.Size)))
	})
}

// rewrite changes the bytes of tables.
func rewrite(s *store, edit func(raw []byte)) {
	change(s, func(seg *segment) {
		raw, _ := decompress(s.blobs[seg.table.Digest])
		edit(raw)
		seg.inline, _ = compress(raw)
		seg.table = descriptor(typeTable, seg.inline)
	})
}

// change changes the segments of main.
func change(s *store, edit func(*segment)) {
	tag := ScopeTag("main")
	x, err := parseIndex(s.blobs[s.tags[tag].Digest])
	if err != nil {
		panic(err)
	}
	for i := range x.segments {
		edit(&x.segments[i])
	}
	raw, d, err := x.encode()
	if err != nil {
		panic(err)
	}
	s.blobs[d.Digest], s.tags[tag] = raw, d
}

// TestSilence: who does not answer is not waited for longer than the budget.
func TestSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		p := s.place()
		p.Read = silent{s}
		m := newMachine(t, p, "main", nil)
		start := time.Now()
		if m.knows(t, layerRecord(s, "a")) || time.Since(start) != Budget || !strings.Contains(m.events(), "no answer within 2s") {
			t.Errorf("after %s: %q", time.Since(start), m.events())
		}
		m.knows(t, layerRecord(s, "b"))
		if time.Since(start) != Budget {
			t.Error("it is waited for again")
		}
	})
}

type silent struct{ *store }

func (silent) Resolve(ctx context.Context, _ image.Reference) (ocispec.Descriptor, error) {
	<-ctx.Done()
	return ocispec.Descriptor{}, ctx.Err()
}

// TestCollected: a segment that the registry has collected is left out, and so is a layer when segments are put together.
func TestCollected(t *testing.T) {
	t.Parallel()
	s := newStore()
	a, b := layerRecord(s, "a"), layerRecord(s, "b")
	if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	x := s.resolves(t, ScopeTag("main"))
	delete(s.blobs, x.segments[0].d.Digest)
	if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if x := s.resolves(t, ScopeTag("main")); len(x.segments) != 1 {
		t.Errorf("the index has %d segments, want the new one", len(x.segments))
	}
	delete(s.blobs, b.Layer.Blob.Digest)
	m := newMachine(t, s.place(), "main", nil)
	if _, err := m.Prune(t.Context(), m.target, DefaultRetention()); err != nil {
		t.Fatal(err)
	}
	if x := s.resolves(t, ScopeTag("main")); x.totals().Records != 0 {
		t.Errorf("%d records are left, want none: its layer is gone", x.totals().Records)
	}
}

// TestForget: what cannot be had is a miss, and is not written again.
func TestForget(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := layerRecord(s, "a")
	if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, s.place(), "main", nil)
	m.knows(t, a)
	m.Forget(&LostError{Layer: a.Layer, Place: "reg/app", Err: fs.ErrNotExist})
	if m.knows(t, a) || m.Holder(a.Layer) != nil || !strings.Contains(m.events(), "is gone; its step is done again") {
		t.Errorf("it is still known; told %q", m.events())
	}
	if why := m.Absent(a.Key, a.Name); len(why) != 1 || !strings.Contains(why[0], "its layer is gone") {
		t.Errorf("why %q", why)
	}
}

// TestImmutable: where a tag can be given once, later indexes have tags of their own, and are found.
func TestImmutable(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.err = func(what string) error {
		kind, tag, _ := strings.Cut(strings.TrimPrefix(what, "put "), " ")
		tag = strings.TrimSpace(tag)
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.tags[tag]; ok && kind == "index" {
			return image.ErrImmutable
		}
		return nil
	}
	var all []Record
	for _, name := range []string{"a", "b", "c"} {
		r := layerRecord(s, name)
		all = append(all, r)
		if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // tags have the time in them
	}
	m := newMachine(t, s.place(), "main", nil)
	for _, r := range all {
		if !m.knows(t, r) {
			t.Errorf("%s is not known", r.Name)
		}
	}
}

// TestWriters: five writers, interleaved at random, some of which die: what the index names is there, and nothing that was reported as
// kept is lost.
func TestWriters(t *testing.T) {
	t.Parallel()
	for round := range 8 {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			dying := func(string) error {
				time.Sleep(5*time.Millisecond + rand.N(25*time.Millisecond)) // a fake clock: who comes next is left to chance
				if rand.N(200) == 0 {
					return errTest
				}
				return nil
			}
			s.err = dying
			var wg sync.WaitGroup
			var mu sync.Mutex // guards kept
			var kept []Record
			for w := range 5 {
				wg.Go(func() {
					for n := range 6 {
						r := layerRecord(s, fmt.Sprint(round, w, n))
						err := newMachine(t, s.place(), "main", nil).keep(t.Context(), r)
						if err == nil {
							mu.Lock()
							kept = append(kept, r)
							mu.Unlock()
						} else if !errors.Is(err, errTest) && !errors.Is(err, ErrBusy) {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			s.err = nil
			s.resolves(t, ScopeTag("main"))
			lost := 0
			m := newMachine(t, s.place(), "main", nil)
			for _, r := range kept {
				if !m.knows(t, r) {
					lost++
				}
			}
			if lost > 1 { // without compare-and-swap there is no more than likelihood
				t.Errorf("%d of %d that were reported as kept are lost", lost, len(kept))
			}
		})
	}
}

// TestThousandBuilds: the index stays small.
func TestThousandBuilds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		m := newMachine(t, s.place(), "main", nil)
		largest := 0
		for i := range 1000 {
			var records []Record
			for n := range 4 {
				records = append(records, layerRecord(s, fmt.Sprint(i, n)))
			}
			forms := map[digest.Digest]ocispec.Descriptor{}
			for n := range records {
				records[n].Used = today(time.Now())
				forms[records[n].Layer.DiffID] = records[n].Layer.Blob
			}
			if _, err := m.Save(t.Context(), m.target, merge(records), forms); err != nil {
				t.Fatal(err)
			}
			largest = max(largest, len(s.blobs[s.tags[ScopeTag("main")].Digest]))
		}
		x := s.resolves(t, ScopeTag("main"))
		t.Logf("at most %d bytes; at the end %d segments, %d records", largest, len(x.segments), x.totals().Records)
		if largest > 200_000 {
			t.Errorf("the index had %d bytes, more than 200 kB", largest)
		}
		fresh := newMachine(t, s.place(), "main", nil)
		for _, i := range []int{0, 500, 999} {
			if r := layerRecord(s, fmt.Sprint(i, 3)); !fresh.knows(t, r) {
				t.Errorf("build %d is not known", i)
			}
		}
	})
}

// TestRetention forgets what nobody has used, and what is large and cheap.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := newStore()
	old, cheap, dear := layerRecord(s, "old"), layerRecord(s, "cheap"), layerRecord(s, "dear")
	old.Used, cheap.Used, dear.Used = 10, 100, 100
	cheap.Cost, dear.Cost = 0, time.Hour
	parts := []part{{table: &table{records: merge([]Record{old, cheap, dear})}}}
	for _, test := range []struct {
		keep Retention
		want []string
	}{
		{Retention{Unused: 30}, []string{"cheap", "dear"}},
		{Retention{Unused: 300}, []string{"old", "cheap", "dear"}},
		{Retention{Unused: 300, Bytes: dear.Layer.Blob.Size}, []string{"dear"}},
		{Retention{Unused: -1}, nil},
		{Retention{Unused: -1, Kept: 30}, []string{"cheap", "dear"}},
		{Retention{Unused: 300, Bytes: 1, Kept: 30}, []string{"cheap", "dear"}},
		{Retention{Unused: 300, Bytes: cheap.Layer.Blob.Size + dear.Layer.Blob.Size, Kept: 30}, []string{"cheap", "dear"}},
		{Retention{Unused: 300, Bytes: 1 << 40, Kept: 30}, []string{"old", "cheap", "dear"}},
	} {
		gone := test.keep.forgets(parts, 101)
		var left []string
		for _, r := range []Record{old, cheap, dear} {
			if !gone[r.Key] {
				left = append(left, strings.TrimPrefix(r.Name, "RUN "))
			}
		}
		if strings.Join(left, " ") != strings.Join(test.want, " ") {
			t.Errorf("%+v leaves %v, want %v", test.keep, left, test.want)
		}
	}
}

// TestSignedTogether: who signs does not vouch for what others wrote, and who does not sign takes no signature away.
func TestSignedTogether(t *testing.T) {
	t.Parallel()
	s := newStore()
	key, _ := signer(t, 1)
	ofCI, ofSomebody := layerRecord(s, "ci"), layerRecord(s, "somebody")
	trusting := func(o *Options) { o.Key, o.Trust = key, Trust{}.With(key) }
	ci := newMachine(t, s.place(), "main", trusting)
	if err := ci.keep(t.Context(), ofCI); err != nil {
		t.Fatal(err)
	}
	somebody := newMachine(t, s.place(), "main", nil)
	if err := somebody.keep(t.Context(), ofSomebody); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*machine{somebody, ci} {
		m.Cache = New(m.o)
		if _, err := m.Prune(t.Context(), m.target, DefaultRetention()); err != nil { // puts together what it may
			t.Fatal(err)
		}
	}
	if x := s.resolves(t, ScopeTag("main")); len(x.segments) != 2 {
		t.Errorf("%d segments, want one that is signed and one that is not", len(x.segments))
	}
	m := newMachine(t, s.place(), "main", trusting)
	if !m.knows(t, ofCI) || m.knows(t, ofSomebody) {
		t.Error("what CI signed is not believed, or what somebody wrote is")
	}
	// Another scope's segments are signed for that one.
	tag, other := ScopeTag("main"), ScopeTag("other")
	x := s.resolves(t, tag)
	x.scope = "other"
	raw, d, _ := x.encode()
	s.blobs[d.Digest], s.tags[other] = raw, d
	if newMachine(t, s.place(), "other", trusting).knows(t, ofCI) {
		t.Error("a segment that was moved to another scope is believed")
	}
}

// TestRate: 10,000 builds an hour of one scope, a fifth of which make something new, cost the registry little.
func TestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		var requests, bytes atomic.Int64
		s.err = func(what string) error {
			time.Sleep(15*time.Millisecond + rand.N(30*time.Millisecond))
			requests.Add(1)
			if strings.HasPrefix(what, "fetch") && strings.Contains(what, "image.index") {
				s.mu.Lock()
				bytes.Add(s.tags[ScopeTag("main")].Size)
				s.mu.Unlock()
			}
			return nil
		}
		const builds, minutes = 1000, 6 // as many as 10,000 in an hour
		var wg sync.WaitGroup
		for i := range builds {
			wg.Go(func() {
				time.Sleep(rand.N(minutes * time.Minute))
				m := newMachine(t, s.place(), "main", func(o *Options) { o.Memory = nil })
				m.knows(t, Record{Key: keyOf("what most ask for")})
				if i%5 != 0 {
					return
				}
				if err := m.keep(t.Context(), layerRecord(s, fmt.Sprint(i)), layerRecord(s, fmt.Sprint(i, "b"))); err != nil && !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s.err = nil
		seconds := float64(minutes * 60)
		t.Logf("%.1f requests/s, %.0f kB/s of indexes, %d index writes for %d builds with something new",
			float64(requests.Load())/seconds, float64(bytes.Load())/seconds/1000, s.puts, builds/5)
		// 3.5 without lanes; each crowd that happens to come together has everybody read 32 lanes for ten seconds, about one request a build.
		if perBuild := float64(requests.Load()) / builds; perBuild > 20 {
			t.Errorf("%.1f requests a build, want at most 20", perBuild)
		}
		s.resolves(t, ScopeTag("main"))
	})
}
