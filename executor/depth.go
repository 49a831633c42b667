package executor

import (
	"fmt"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// checkDepth refuses a graph in which a file system has more layers than an image or a mount can have, before anything is
// done. Each step adds one layer, what it changes or not.
func checkDepth(g *planner.Graph) error {
	depth := make([]int, len(g.Steps))
	deepest := (*planner.Step)(nil)
	for _, s := range g.Steps {
		switch op := s.Op.(type) {
		case *planner.Base:
			depth[s.Index] = len(op.Image.Layers())
		default:
			depth[s.Index] = 1
			if s.On != nil {
				depth[s.Index] += depth[s.On.Index]
			}
		}
		if deepest == nil || depth[s.Index] > depth[deepest.Index] {
			deepest = s
		}
	}
	if deepest == nil || depth[deepest.Index] <= image.MaxLayers {
		return nil
	}
	return &StepError{Step: deepest, Err: fmt.Errorf(
		"its file system would have %d layers, and %d are the most: put several commands into one RUN, or copy the result into a new stage",
		depth[deepest.Index], image.MaxLayers)}
}
