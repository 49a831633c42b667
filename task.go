package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/source"
)

// taskSettings are the options of a build that decide how a job is done and are not in it, in docker's words.
type taskSettings struct {
	AddHosts     []string     `json:"hosts,omitempty"`
	Limits       LimitOptions `json:"limits,omitzero"`
	SecurityOpts []string     `json:"security,omitempty"`
}

// DoTask does the job of a file, in whose directory its layers lie, and writes what came of it there: layer.tar and result.json. What
// its command prints goes to log. The exit code is that of a command which did not succeed; it goes with an error. written is what
// result.json holds.
//
// What comes of it depends on the directory alone. The store is where the work is done, and keeps nothing of it.
func (h *Home) DoTask(ctx context.Context, file string, log io.Writer) (exit int, written []byte, err error) {
	dir := filepath.Dir(file)
	var out executor.Outcome
	var mu sync.Mutex // guards out.Warnings
	events := event.Sink(func(e event.Event) {
		if e.Kind != event.Warning {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		out.Warnings = append(out.Warnings, e.Text)
	})
	task, err := executor.ReadTask(file)
	if err == nil {
		err = h.doTask(ctx, dir, task, &out, log, events)
	}
	if err != nil {
		out.Layer, out.Input = nil, nil
		out.Fail(err)
	}
	if out.Exit != nil {
		exit = out.Exit.Code
		out.Weaker = weaker(&out)
	}
	written, failed := executor.WriteOutcome(dir, out)
	return exit, written, errors.Join(err, failed)
}

func (h *Home) doTask(ctx context.Context, dir string, task executor.Task, out *executor.Outcome, log io.Writer, events event.Sink) (err error) {
	var set taskSettings
	if task.Settings != nil {
		if err := json.Unmarshal(task.Settings, &set); err != nil {
			return fmt.Errorf("settings of the job: %w", err)
		}
	}
	o := BuildOptions{}
	o.AddHosts, o.LimitOptions, o.SecurityOpts, o.Events = set.AddHosts, set.Limits, set.SecurityOpts, events
	b := h.newBuilding([]Target{{BuildOptions: o}})
	b.first().src = &sources{Source: &source.Source{}, images: &resolver{home: h, arrivals: &arrivals{}}}
	workers, err := h.workers(b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeWorkers(workers)) }()
	var ahead sync.WaitGroup
	defer ahead.Wait()
	if _, runs := task.Job.Op.(*planner.Run); runs && task.Job.Only == nil {
		ahead.Go(func() { _, _ = workers[0].Containers.Isolate() }) // which the kernel takes long for; the worker asks for what came of it
	}
	for _, l := range task.Job.Layers() {
		if err := h.Layout.Borrow(ctx, filepath.Join(dir, executor.TaskLayers, l.DiffID.Encoded()), l); err != nil {
			return fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
	}
	if task.Job.Only != nil {
		n, layers := task.Job.Resolves()
		in, err := workers[0].Inputs.Resolve(ctx, task.Job.Op, n, layers)
		out.Input = &in
		return err
	}
	result, err := workers[0].Do(ctx, task.Job, log)
	if out.Usage = result.Usage; err != nil {
		return err
	}
	out.Layer = &result.Layer
	return h.Layout.GiveTar(ctx, result.Layer, filepath.Join(dir, executor.OutcomeTar))
}

// weaker says what this machine lacks that a command may have failed for; "" if there is nothing.
func weaker(out *executor.Outcome) string {
	const notFound = 127 // which is told of with a reason everywhere
	if reason, one := runtime.OneID(); one {
		return "there is one ID: " + reason
	}
	if out.Exit.Code != notFound {
		return out.Reason
	}
	return ""
}
