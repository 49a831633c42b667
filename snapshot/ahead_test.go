package snapshot

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/forge-build/forge/image"
)

// Layers that were mounted ahead are those of the draft, at the same time too, and nothing stays open.
func TestAhead(t *testing.T) {
	s := openStore(t)
	layers := []image.Layer{commitOps(t, s, "a=1"), commitOps(t, s, "b=2")}
	ctx := context.Background()
	ahead := make(chan error)
	go func() { ahead <- errors.Join(s.Ahead(ctx, layers), s.Ahead(ctx, nil)) }()
	d, err := s.Draft(ctx, layers, DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ahead; err != nil {
		t.Fatal(err)
	}
	root, err := d.Mount(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := os.Stat(procPath(int(root.Fd())) + "/" + name); err != nil {
			t.Error(err)
		}
	}
	kind, _ := s.Kind()
	if want := len(layers); kind != Copy && len(s.layers.m) != want {
		t.Errorf("%d layers are mounted, want %d", len(s.layers.m), want)
	}
	if err := d.Close(); err != nil || len(s.open.m) != 0 {
		t.Errorf("%d layers are open in the end, %v", len(s.open.m), err)
	}
	missing := layers[0]
	missing.DiffID = "sha256:" + missing.DiffID[7:8] + missing.DiffID[7:70]
	missing.Blob.Digest = missing.DiffID
	if err := s.Ahead(ctx, []image.Layer{missing}); kind != Copy && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is not here: %v", err)
	}
}
