package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// A Worker has jobs done by a cluster, and by the worker of this machine. All fields are needed, but for Settings and Stays. Safe for
// concurrent use.
type Worker struct {
	Cluster *Cluster
	Local   executor.Worker
	Inputs  Packer
	Layers  Layers
	Fetch   func(ctx context.Context, layers []image.Layer) error // brings layers here; those that the cluster has made are its own

	Settings json.RawMessage // for forge worker
	Stays    string          // why RUN is done here; "" if nothing speaks against another machine
}

// A Packer makes layers of what jobs read of build contexts; *source.Resolver is one.
type Packer interface {
	Pack(ctx context.Context, op planner.Op, n int, epoch *time.Time) (image.Layer, error)
}

// Layers are those of this machine; *image.Layout is them.
type Layers interface {
	HaveLayer(ctx context.Context, l image.Layer) (bool, error)
	OpenTar(ctx context.Context, l image.Layer) (*os.File, error)
}

// Do implements [executor.Worker].
func (w *Worker) Do(ctx context.Context, job executor.Job, log io.Writer) (executor.Result, error) {
	away, why, err := w.choose(ctx, &job)
	if err != nil {
		return executor.Result{}, err
	}
	if !away {
		return w.here(ctx, job, log, why)
	}
	r, err := w.away(ctx, job, log)
	r.Why = why
	_, ran := errors.AsType[*executor.ExitError](err)
	_, lost := errors.AsType[*remote.LostError](err)
	switch {
	case errors.Is(err, executor.ErrWeaker) && ctx.Err() == nil:
		w.Cluster.warn("%s: %v; it is done here", w.Cluster, err)
		return w.here(ctx, job, log, err.Error())
	case err == nil, ran, lost:
		return r, err
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case w.Cluster.options.Policy == Only:
		return r, fmt.Errorf("remote execution: %w; --remote-policy auto does it here", err)
	}
	w.Cluster.trouble(err)
	return w.here(ctx, job, log, "the server could not: "+err.Error())
}

// here does a job on this machine.
func (w *Worker) here(ctx context.Context, job executor.Job, log io.Writer, why string) (executor.Result, error) {
	needs := job
	if c, ok := job.Op.(*planner.Copy); ok && c.Independent() {
		needs.On = nil
	}
	if err := w.Fetch(ctx, needs.Layers()); err != nil {
		return executor.Result{}, err
	}
	r, err := w.Local.Do(ctx, job, log)
	r.Why = why
	return r, err
}

// choose says where a job is done, and why there.
func (w *Worker) choose(ctx context.Context, job *executor.Job) (away bool, why string, err error) {
	if down := w.Cluster.Down(); down != nil {
		return false, "the server is in trouble", nil
	}
	if why := job.Stays(); why != "" {
		return false, why, nil
	}
	if op, ok := job.Op.(*planner.Run); ok {
		if why := w.stays(op); why != "" {
			return false, why, nil
		}
		return w.worth(job)
	}
	if away, err := w.areAway(ctx, job.Layers()); err != nil || !away {
		return false, "", err
	}
	return true, "its layers are there", nil // to copy is no work: it goes where the layers are
}

// stays says why a RUN that could be done on another machine is done here; "" if nothing speaks against another.
func (w *Worker) stays(op *planner.Run) string {
	switch {
	case w.Stays != "":
		return w.Stays
	case op.Network != "none" && w.Cluster.options.Network == nil:
		return "it has a network, and --remote-network does not say how the server names one"
	case op.Platform != "" && op.Platform != platform():
		return "it is for " + op.Platform
	}
	return ""
}

// platform is that of this program, and so of a worker that can execute it.
func platform() string { return "linux/" + runtime.GOARCH }

// worth says whether a RUN that could be done elsewhere is.
func (w *Worker) worth(job *executor.Job) (away bool, why string, err error) {
	if w.Cluster.options.Policy == Only {
		return true, "", nil
	}
	took := time.Duration(0)
	if job.Hints.Took != nil {
		took = job.Hints.Took()
	}
	switch {
	case took == 0:
		return true, "nobody knows how long it takes", nil
	case took < worth:
		return false, fmt.Sprintf("it took %s the last time", took.Round(time.Millisecond)), nil
	}
	return true, fmt.Sprintf("it took %s the last time", took.Round(100*time.Millisecond)), nil
}

// show says how a step stands that is done elsewhere.
func (w *Worker) show(job *executor.Job, format string, args ...any) {
	if job.Hints.Step == nil {
		return
	}
	w.Cluster.options.Events.Send(event.Event{
		Time: time.Now(), Kind: event.Progress, Step: job.Hints.Step, Text: fmt.Sprintf(format, args...),
	})
}

// mnemonic is what people who look at the server see of a job.
func mnemonic(op planner.Op) string {
	return strings.ToUpper(strings.TrimPrefix(fmt.Sprintf("%T", op), "*planner."))
}
