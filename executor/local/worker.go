// Package local does jobs on this machine: COPY without a mount, RUN in a container.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	goruntime "runtime"
	"sync"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
)

// A Worker does jobs. Its fields are set before the first job and not changed after. Safe for concurrent use; Close it when
// no job is running any more.
type Worker struct {
	Layout *image.Layout
	Events event.Sink       // takes warnings; may be nil
	Inputs *source.Resolver // the contexts, layers and downloads that jobs read

	// What RUN may use. Limits, Security and Hosts hold for all of them.
	Containers *container.Factory
	Allow      planner.Entitlements
	Limits     runtime.Limits
	Security   runtime.Security // loosened for a RUN that is insecure
	Hosts      []container.Host

	Beside *Worker // another of the build, for jobs with other secrets or limits: both together work on no more at once; may be nil

	KeepFailed bool // keep containers whose commands fail, for Failed

	once sync.Once
	work chan struct{} // holds a token for each job that works, and does not only wait for its command

	mu     sync.Mutex            // guards failed
	failed map[planner.Op]*Stand // by their jobs' Op
}

// Do implements [executor.Worker].
func (w *Worker) Do(ctx context.Context, job executor.Job, log io.Writer) (r executor.Result, err error) {
	switch op := job.Op.(type) {
	case *planner.Copy:
		r.Layer, err = w.doCopy(ctx, job, op)
	case *planner.Run:
		return w.doRun(ctx, job, log)
	case *planner.Mkdir:
		r.Layer, err = w.doMkdir(ctx, job, op)
	default:
		err = fmt.Errorf("no such job: %T", job.Op)
	}
	return r, err
}

// places are a token for each job that may work at once.
func (w *Worker) places() chan struct{} {
	if w.Beside != nil {
		return w.Beside.places()
	}
	w.once.Do(func() { w.work = make(chan struct{}, max(16, 2*goruntime.GOMAXPROCS(0))) })
	return w.work
}

// begin waits until the machine has room for one more job to work, and returns how to give that back. Jobs read and write
// files and hash: a few for each processor keep disk and processors busy, and more only take memory.
func (w *Worker) begin(ctx context.Context) (end func(), err error) {
	work := w.places()
	select {
	case work <- struct{}{}:
		return sync.OnceFunc(func() { <-work }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// tree is what the n'th input of a job is read from: the file system of a step, a layer that was made of a build context,
// or the context. What a layer holds that came from elsewhere is checked; a context looks after its files itself.
func (w *Worker) tree(ctx context.Context, job executor.Job, n int, in planner.Input) (filetree.Tree, error) {
	if in.Read >= 0 {
		return w.Inputs.Layers.View(ctx, job.Reads[in.Read])
	}
	if n < len(job.Inputs) && job.Inputs[n].Layer != nil {
		view, err := w.Inputs.Layers.View(ctx, []image.Layer{*job.Inputs[n].Layer})
		if err != nil {
			return nil, err
		}
		return view, w.Inputs.Verify(ctx, job.Op, n, job.Inputs[n], view)
	}
	if t, ok := w.Inputs.Contexts[in.Context]; ok {
		return t, nil
	}
	if in.Context == "" {
		return nil, errors.New("there is no build context")
	}
	return nil, fmt.Errorf("there is no build context %q", in.Context)
}

// Close closes Containers, and what Failed would still return. What Inputs has opened is its owner's to close.
func (w *Worker) Close() (err error) {
	for _, s := range w.failed {
		err = errors.Join(err, s.Close())
	}
	if w.Containers == nil {
		return err
	}
	return errors.Join(err, w.Containers.Close())
}
