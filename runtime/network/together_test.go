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
