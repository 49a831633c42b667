package executor

import (
	"context"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// Bases are images whose layers may still be elsewhere. It reports the coming of an image as its step.
type Bases interface {
	Here(img *image.Image) bool                                  // its layers need not be fetched
	FetchLayers(ctx context.Context, layers []image.Layer) error // brings the images that layers belong to
}

// fetch brings the image that a file system begins with, unless it is nil. The time that takes is the base's, and not that of the
// step which waits for it; and so is the error.
func (b *build) fetch(ctx context.Context, s *planner.Step) error {
	for s != nil && s.On != nil {
		s = s.On
	}
	if s == nil || b.options.Bases == nil {
		return nil
	}
	base, ok := s.Op.(*planner.Base)
	if !ok {
		return nil
	}
	if err := b.options.Bases.FetchLayers(ctx, base.Image.Layers()); err != nil {
		return &StepError{Step: s, Err: err}
	}
	return nil
}
