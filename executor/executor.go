// Package executor does the steps of a graph: each from the cache if it can, by a worker if it must.
package executor

import (
	"context"
	"io"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// A Job is a Step whose inputs are known. It is plain data and complete in itself: any machine that can fetch its
// layers and has the build's contexts can do it.
type Job struct {
	Op    planner.Op
	On    []image.Layer
	Reads [][]image.Layer
}

// A Worker does jobs. [Local] does them here.
type Worker interface {
	// Describe adds to h what the job depends on and does not say itself, such as the digests of files.
	Describe(ctx context.Context, job Job, h *cache.Hash) error
	// Do does the job and writes what its command prints to log.
	Do(ctx context.Context, job Job, log io.Writer) (image.Layer, error)
}
