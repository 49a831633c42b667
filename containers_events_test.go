package forge_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/forge-build/forge"
)

// TestEventsFromNow: what happens after a query is made is shown, although the reading begins later; what was before is not.
func TestEventsFromNow(t *testing.T) {
	t.Parallel()
	h := &forge.Home{Dir: t.TempDir()}
	create := func(name string) {
		t.Helper()
		if _, err := h.CreateVolume(t.Context(), forge.VolumeOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	create("before")
	q, err := forge.ParseEventQuery("", "", []string{"type=volume"})
	if err != nil {
		t.Fatal(err)
	}
	create("after")
	found := errors.New("found")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = h.Events(ctx, q, func(m forge.EventMessage) error {
		if m.Actor.ID != "after" {
			t.Errorf("%s %s is shown", m.Action, m.Actor.ID)
		}
		return found
	})
	if !errors.Is(err, found) {
		t.Error(err)
	}
}
