package remote

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPruneAmongOthers: what others write and are told is kept, between what a prune reads and what it writes, stays.
func TestPruneAmongOthers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		open bool              // the lanes are
		at   func(string) bool // when another writes: what the one who prunes is doing
	}{
		{"after it has read", false, nil},
		{"while it puts together", false, func(doing string) bool { return strings.HasPrefix(doing, "put segment") }},
		{"a lane, after it has read", true, nil},
		{"a lane, while it closes them", true, func(doing string) bool { return strings.HasPrefix(doing, "put index "+ScopeTag("main")+" ") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				before, meanwhile := layerRecord(s, "before"), layerRecord(s, "meanwhile")
				keep := func(r Record) {
					if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), r); err != nil {
						t.Error(err)
					}
				}
				keep(before)
				if test.open {
					dated(t, s, time.Now())
				}
				m := newMachine(t, s.place(), "main", nil)
				if !m.knows(t, before) {
					t.Fatal("what was kept is not known")
				}
				done := false
				if test.at == nil {
					keep(meanwhile)
				} else {
					s.err = func(doing string) error {
						if !done && test.at(doing) {
							done = true
							keep(meanwhile)
						}
						return nil
					}
				}
				if _, err := m.Prune(t.Context(), m.target, DefaultRetention()); err != nil {
					t.Fatal(err)
				}
				if done == (test.at == nil) {
					t.Error("the other did not write")
				}
				if x := s.resolves(t, ScopeTag("main")); x.open {
					t.Error("the lanes are open")
				}
				m = newMachine(t, s.place(), "main", nil)
				if !m.knows(t, before) || !m.knows(t, meanwhile) {
					t.Errorf("before: %t, meanwhile: %t; want both", m.knows(t, before), m.knows(t, meanwhile))
				}
			})
		})
	}
}

// TestPruneIsReplaced: a prune whose index another, who had read before, has replaced is done again, also if it left nothing.
func TestPruneIsReplaced(t *testing.T) {
	t.Parallel()
	for _, keep := range []Retention{{Unused: -1}, {Unused: daysUnused, Bytes: 1}} {
		synctest.Test(t, func(t *testing.T) {
			s, tag := newStore(), ScopeTag("main")
			r := layerRecord(s, "a")
			if err := newMachine(t, s.place(), "main", nil).keep(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			old, puts := s.tags[tag], s.puts
			s.err = func(doing string) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				if strings.HasPrefix(doing, "resolve "+tag) && s.puts == puts+1 {
					s.puts++
					s.tags[tag] = old
				}
				return nil
			}
			m := newMachine(t, s.place(), "main", nil)
			p, err := m.Prune(t.Context(), m.target, keep)
			if err != nil || p.Records != 1 || p.Layers != 1 || p.Bytes != r.Layer.Blob.Size {
				t.Errorf("%+v, %v; want one record and its layer", p, err)
			}
			if newMachine(t, s.place(), "main", nil).knows(t, r) {
				t.Error("what was forgotten is known")
			}
		})
	}
}
