package remote

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

// TestClockSkew: a machine whose clock is wrong by days is understood, and understands others. Clocks decide only how long answers are
// kept.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-400 * 24 * time.Hour, -time.Hour, time.Hour, 400 * 24 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(30 * 365 * 24 * time.Hour) // the fake clock begins before days are counted
				s := newStore()
				theirs, ours := layerRecord(s, "theirs"), layerRecord(s, "ours")
				wrong := time.Now().Add(skew)
				theirs.Used, theirs.Created = today(wrong), wrong.Truncate(time.Microsecond).UTC()
				m := newMachine(t, s.place(), "main", nil)
				forms := map[digest.Digest]ocispec.Descriptor{theirs.Layer.DiffID: theirs.Layer.Blob}
				if _, err := m.Save(t.Context(), m.target, []Record{theirs}, forms); err != nil {
					t.Fatal(err)
				}
				dated(t, s, wrong)
				if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), ours); err != nil {
					t.Fatal(err)
				}
				kept := skew > -daysUnused*24*time.Hour
				m = newMachine(t, s.place(), "main", nil)
				if m.knows(t, theirs) != kept || !m.knows(t, ours) {
					t.Errorf("theirs is known: %t, want %t; ours: %t, want true", !kept, kept, m.knows(t, ours))
				}
				if _, err := m.Prune(t.Context(), m.target, DefaultRetention()); err != nil {
					t.Fatal(err)
				}
				m = newMachine(t, s.place(), "main", nil)
				if m.knows(t, theirs) != kept || !m.knows(t, ours) {
					t.Errorf("after a prune theirs is known: %t, want %t; ours: %t, want true", !kept, kept, m.knows(t, ours))
				}
			})
		})
	}
}

// dated makes the index of main one that was written at a time, with open lanes.
func dated(t *testing.T, s *store, at time.Time) {
	t.Helper()
	tag := ScopeTag("main")
	x := s.resolves(t, tag)
	x.written, x.open = at, true
	raw, d, err := x.encode()
	if err != nil {
		t.Fatal(err)
	}
	s.blobs[d.Digest], s.tags[tag] = raw, d
}

// TestClockSkewOfListed: where tags can be given once, the index of a machine whose clock is behind is found, too.
func TestClockSkewOfListed(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.err = func(what string) error {
		kind, tag, _ := strings.Cut(strings.TrimPrefix(what, "put "), " ")
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.tags[strings.TrimSpace(tag)]; ok && kind == "index" {
			return image.ErrImmutable
		}
		return nil
	}
	for i := range 2 {
		if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), layerRecord(s, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxListed { // those of clocks that are ahead
		s.tags[listedTag(ScopeTag("main"), time.Now().Add(time.Duration(100+i)*time.Hour), "")] = s.tags[ScopeTag("main")]
	}
	behind := layerRecord(s, "behind")
	if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), behind); err != nil {
		t.Fatal(err)
	}
	if !newMachine(t, s.place(), "main", nil).knows(t, behind) {
		t.Error("it is not known")
	}
}

// TestTwoFormats: forges that make keys of other formats share a scope, and neither takes the other's answer.
func TestTwoFormats(t *testing.T) {
	t.Parallel()
	s := newStore()
	var of [2]Record
	for i, format := range []string{"3", "4"} {
		var h cache.Hash
		h.Field("format", format)
		h.Field("run", "make")
		of[i] = layerRecord(s, "made by "+format)
		of[i].Key, of[i].Name = h.Key(), "RUN make"
	}
	if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), of[0]); err != nil {
		t.Fatal(err)
	}
	newer := newMachine(t, s.place(), "main", nil)
	if newer.knows(t, of[1]) {
		t.Error("an answer of another format is taken")
	}
	if err := newer.keep(t.Context(), of[1]); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, s.place(), "main", nil)
	if !m.knows(t, of[0]) || !m.knows(t, of[1]) {
		t.Error("one has taken the other's place")
	}
}
