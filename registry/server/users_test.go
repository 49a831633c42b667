package server

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// TestRefusalsCostTheSame holds that the work of a refusal tells neither who is known nor whose hash is costly.
func TestRefusalsCostTheSame(t *testing.T) {
	t.Parallel()
	const most = 9
	for cost := bcrypt.MinCost; cost <= most; cost++ {
		hash := noHash(cost)
		if err := bcrypt.CompareHashAndPassword(hash, []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("a hash of nobody's is not compared with: %v", err)
		}
		work := 1 << cost
		for _, c := range fillCosts(hash, most) {
			work += 1 << c
		}
		if work != 1<<most {
			t.Errorf("a refusal after a hash of cost %d costs %d, want %d", cost, work, 1<<most)
		}
	}
}

// TestLoginsAreBounded holds that no more comparisons run than there are slots, that some requests wait, and that the others
// are told to come back.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	u := &users{slots: make(chan struct{}, 1), queue: make(chan struct{}, 1)}
	release, err := u.slot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() {
		_, err := u.slot(ctx)
		waits <- err
	}()
	for len(u.queue) == 0 {
		select {
		case err := <-waits:
			t.Fatalf("a second comparison did not wait: %v", err)
		default:
		}
	}
	if _, err := u.slot(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("a third comparison: %v, want %v", err, errBusy)
	}
	cancel()
	if err := <-waits; !errors.Is(err, errBusy) {
		t.Errorf("a client that went away: %v", err)
	}
	release()
	if release, err = u.slot(t.Context()); err != nil {
		t.Fatal(err)
	}
	release()
}
