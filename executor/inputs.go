package executor

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// resolvers is how many inputs from outside are resolved at once: some wait for networks, others read files.
const resolvers = 8

// outside is where an input is read from that is not the file system of a step.
const outside = -1

// inputs says of each input of an operation from which of the step's Reads it is read, or outside.
func inputs(op planner.Op) []int {
	var from []int
	switch op := op.(type) {
	case *planner.Copy:
		for _, s := range op.Sources {
			if s.Path != "" {
				from = append(from, op.From.Read)
			} else {
				from = append(from, outside)
			}
		}
	case *planner.Run:
		for _, m := range op.Mounts {
			if m.From != nil {
				from = append(from, m.From.Read)
			} else {
				from = append(from, outside)
			}
		}
	}
	return from
}

// resolveOutside resolves the inputs of s that no step makes: files of contexts, commits, content of URLs. It waits for no
// other step, so that what is missing is found out before anything has been done in vain.
func (b *build) resolveOutside(ctx context.Context, s *planner.Step) ([]source.Input, error) {
	select {
	case b.resolving <- struct{}{}:
		defer func() { <-b.resolving }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return b.resolve(ctx, s, make([]source.Input, len(inputs(s.Op))), nil)
}

// resolve resolves those inputs of s that are read from reads; nil stands for what is read from outside.
func (b *build) resolve(ctx context.Context, s *planner.Step, resolved []source.Input, reads [][]image.Layer) ([]source.Input, error) {
	g, ctx := errgroup.WithContext(ctx)
	for n, from := range inputs(s.Op) {
		if (from < 0) != (reads == nil) {
			continue
		}
		var layers []image.Layer
		if from >= 0 {
			layers = reads[from]
		}
		g.Go(func() (err error) {
			resolved[n], err = b.options.Inputs.Resolve(ctx, s.Op, n, layers)
			return err
		})
	}
	return resolved, g.Wait()
}
