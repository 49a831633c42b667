package executor

import (
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// finish writes into c the times of result's steps. A layer has the time at which it was made, which the cache remembers,
// so that an image built again from the cache is the same to the byte; what adds no layer has the time of what comes
// before it. With an epoch all that this graph added has that time.
func finish(c *image.Config, result *planner.Step, created []time.Time, epoch *time.Time) {
	c.History = slices.Clone(c.History)
	own := c.History[baseHistory(c.History, result):]

	// From the end: a base may have fewer entries than layers.
	steps := layerSteps(result)
	for i := len(own) - 1; i >= 0 && len(steps) > 0; i-- {
		if own[i].EmptyLayer {
			continue
		}
		own[i].Created = &created[steps[len(steps)-1].Index]
		steps = steps[:len(steps)-1]
	}
	last := c.Created // the base's
	if n := len(c.History) - len(own); n > 0 && c.History[n-1].Created != nil {
		last = c.History[n-1].Created
	}
	for i := range own {
		if own[i].Created != nil {
			last = own[i].Created
		}
		own[i].Created = atTime(last, epoch)
	}
	fillBackwards(c.History)
	if n := len(c.History); n > 0 && (len(own) > 0 || c.Created == nil) {
		c.Created = c.History[n-1].Created
	}
}

// layerSteps are the steps whose layers lie on the base's, lowest first.
func layerSteps(result *planner.Step) []*planner.Step {
	var steps []*planner.Step
	for s := result; s != nil; s = s.On {
		if _, ok := s.Op.(*planner.Base); !ok {
			steps = append(steps, s)
		}
	}
	slices.Reverse(steps)
	return steps
}

// baseHistory is how many entries of a history are the base's.
func baseHistory(history []ocispec.History, result *planner.Step) int {
	s := result
	for s != nil && s.On != nil {
		s = s.On
	}
	if s == nil {
		return 0
	}
	base, ok := s.Op.(*planner.Base)
	if !ok {
		return 0
	}
	return min(len(base.Image.Config.History), len(history))
}

// fillBackwards gives entries before the first one with a time that one's: ENV in an empty stage is as old as the layer
// that follows.
func fillBackwards(history []ocispec.History) {
	var next *time.Time
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Created != nil {
			next = history[i].Created
			continue
		}
		history[i].Created = next
	}
}

func atTime(t, epoch *time.Time) *time.Time {
	if epoch != nil {
		t = epoch
	}
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
