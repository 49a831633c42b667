package network

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/flock"
)

// TestVisits: whose context ends while another process has the lock does nothing, whoever comes after a failure sees what is so, and all who
// wait have one look at it.
func TestVisits(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	lock, err := s.account.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	given := make(chan error)
	go func() {
		given <- s.visit(ctx, func(*usage) error {
			t.Error("what was called off is done")
			return nil
		})
	}()
	enough := errors.New("enough")
	cancel(enough)
	if err := <-given; !errors.Is(err, enough) || !strings.Contains(err.Error(), s.account.root) {
		t.Errorf("called off: %v", err)
	}
	failure := errors.New("fails")
	var seen []*usage
	ended := make(chan error, 4)
	for i := range 4 {
		go func() {
			ended <- s.visit(t.Context(), func(u *usage) error {
				if seen = append(seen, u); len(seen) == 2 { // one after the other, so that nothing guards seen
					u.networks = append(u.networks, &Network{})
					return failure
				}
				if len(u.networks) > 0 {
					t.Errorf("visit %d sees what was not done", i)
				}
				return nil
			})
		}()
	}
	for s.visits.count() < 4 {
		time.Sleep(time.Millisecond)
	}
	if _, err := flock.TryLock(filepath.Join(s.account.root, "lock"), flock.Exclusive); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("the lock is not held: %v", err)
	}
	lock.Close()
	failed := 0
	for range 4 {
		if err := <-ended; errors.Is(err, failure) {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if failed != 1 || len(seen) != 4 || seen[0] != seen[1] || seen[2] != seen[3] || seen[1] == seen[2] {
		t.Errorf("%d failed; usages %p", failed, seen)
	}
	if err := s.visit(t.Context(), func(*usage) error { return nil }); err != nil {
		t.Errorf("who comes when all are done: %v", err)
	}
	if i := slices.Index(seen, nil); i >= 0 {
		t.Errorf("visit %d has no usage", i)
	}
}

// TestFailedFirst: a container that could not be the first in a network, which went again, does not take the address of the one that was.
func TestFailedFirst(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n"})
	in := []Attachment{{Network: "n"}}
	busy := run(t, s, Options{Networks: byDefault.Networks, Ports: ports(t, "8080:80")})
	failed := &Sandbox{store: s}
	var taken *PortError
	if err := failed.join(t.Context(), in, ports(t, "8080:80")); !errors.As(err, &taken) {
		t.Fatalf("a port of %v was given again: %v", busy.Bindings(), err)
	}
	first := run(t, s, Options{Networks: in})
	if err := failed.close(); err != nil {
		t.Fatal(err)
	}
	wantOthers(t, s, first, run(t, s, Options{Networks: in}))
}

// TestFailedWithoutBridge: a container that fails does not take what it made of a network, whose bridge had been deleted by hand, from those that
// are in it.
func TestFailedWithoutBridge(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	n := create(t, s, Config{Name: "n"})
	in := []Attachment{{Network: "n"}}
	first := run(t, s, Options{Networks: in, Ports: ports(t, "8080:80")})
	if err := removeLink(n.bridge()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(t.Context(), Options{Networks: in, Ports: ports(t, "8080:80")}); err == nil {
		t.Fatal("a port was given again")
	}
	wantOthers(t, s, first, run(t, s, Options{Networks: in}))
}

// wantOthers holds that two containers have addresses of their own, of which all processes know.
func wantOthers(t *testing.T, s *Store, a, b *Sandbox) {
	t.Helper()
	one, two := a.Endpoints()[0], b.Endpoints()[0]
	if one.Address == two.Address {
		t.Errorf("two containers have the address %s", one.Address)
	}
	u, err := (&account{root: s.account.root}).usage()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Endpoint{one, two} {
		if !slices.ContainsFunc(u.endpoints, func(e Endpoint) bool { return e.ID == want.ID }) {
			t.Errorf("the address %s is free", want.Address)
		}
	}
}
