package flight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGroup holds that work is done once, that all who ask get what came of it, and that what was taken is done anew.
func TestGroup(t *testing.T) {
	t.Parallel()
	var g Group[string, int]
	var done atomic.Int32
	ask := func() int {
		f, first := g.Of("a")
		if first {
			f.Land(int(done.Add(1)))
		}
		v, err := f.Wait(t.Context())
		if err != nil {
			t.Error(err)
		}
		return v
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if v := ask(); v != 1 {
				t.Errorf("%d, want 1", v)
			}
		})
	}
	all.Wait()
	if g.Find("a") == nil || g.Find("b") != nil || g.Take("b") != nil {
		t.Error("it does not know what was asked for")
	}
	if f := g.Take("a"); f == nil || ask() != 2 {
		t.Error("what was taken is not done anew")
	}
}

// TestWait holds that nobody waits longer than for the end of their context.
func TestWait(t *testing.T) {
	t.Parallel()
	var g Group[string, int]
	f, _ := g.Of("a")
	why := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := f.Wait(ctx); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
}
