package turn

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestOrder holds that the most urgent goes first and, of those that are as urgent, who came first.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New(1)
		if err := q.Wait(t.Context(), nil); err != nil { // which nobody asks
			t.Fatal(err)
		}
		var order []int
		var all sync.WaitGroup
		for i, urgency := range []float64{1, 3, 2, 3, 0} {
			all.Go(func() {
				if err := q.Wait(t.Context(), func() float64 { return urgency }); err != nil {
					t.Error(err)
				}
				order = append(order, i)
				q.Leave()
			})
			synctest.Wait()
		}
		q.Leave()
		all.Wait()
		if want := []int{1, 3, 2, 0, 4}; !slices.Equal(order, want) {
			t.Errorf("%v, want %v", order, want)
		}
	})
}

// TestEnd holds that who does not wait any more takes no place, also when it is called at the same time.
func TestEnd(t *testing.T) {
	t.Parallel()
	for range 100 {
		q := New(2)
		none := func() float64 { return 0 }
		if err := errors.Join(q.Wait(t.Context(), none), q.Wait(t.Context(), none)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if q.Wait(ctx, none) == nil {
					q.Leave()
				}
			})
		}
		all.Go(cancel)
		all.Go(q.Leave)
		all.Wait()
		q.Leave()
		if q.free != 2 || len(q.waiting) != 0 {
			t.Fatalf("%d places are free and %d wait, want 2 and 0", q.free, len(q.waiting))
		}
	}
}
