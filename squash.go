package forge

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// squash makes one layer of all that the build put on its base image.
func (h *Home) squash(ctx context.Context, o BuildOptions, g *planner.Graph, r *executor.Image) error {
	var below []image.Layer
	for s := g.Result; s != nil; s = s.On {
		if base, ok := s.Op.(*planner.Base); ok {
			below = base.Image.Layers()
		}
	}
	above := r.Layers[len(below):]
	if len(above) < 2 {
		return nil
	}
	store, err := h.Snapshots()
	if err != nil {
		return err
	}
	layer, err := store.Squash(ctx, below, above, o.Epoch)
	if err != nil {
		return fmt.Errorf("squash: %w", err)
	}
	r.Layers = append(below[:len(below):len(below)], layer)
	kept := 0
	for i := range r.Config.History {
		if e := &r.Config.History[i]; !e.EmptyLayer {
			kept++
			e.EmptyLayer = kept > len(below)
		}
	}
	r.Config.History = append(r.Config.History, ocispec.History{
		Created: r.Config.Created, Comment: fmt.Sprintf("squashed %d layers", len(above)),
	})
	return nil
}
