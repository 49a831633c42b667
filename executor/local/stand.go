package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// A Stand is the container of a RUN: its file system, mounts and network, ready for a command. What is written in it becomes a
// layer only where the Worker commits it. One goroutine at a time may call its methods; close it before the Worker.
type Stand struct {
	container *container.Container
	draft     *snapshot.Draft
	tools     bool // toolDir is mounted
}

// Stand prepares the container of a job whose Op is a RUN.
func (w *Worker) Stand(ctx context.Context, job executor.Job) (_ *Stand, err error) {
	op, ok := job.Op.(*planner.Run)
	if !ok {
		return nil, fmt.Errorf("%T has no container", job.Op)
	}
	if err := w.Inputs.Layers.Ensure(ctx, job.On); err != nil {
		return nil, err
	}
	isolation, err := w.Containers.Isolate()
	if err != nil {
		return nil, err
	}
	s := &Stand{}
	plain := snapshot.DraftOptions{Plain: isolation == runtime.ByChroot}
	if s.draft, err = w.Inputs.Layers.Snapshots.Draft(ctx, job.On, plain); err != nil {
		return nil, err
	}
	options, err := w.runOptions(ctx, job, op)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	options.Root = s.draft
	if s.container, err = w.Containers.Prepare(ctx, options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// keep keeps the container of a job whose command has failed, if the Worker is to. It reports whether it did.
func (w *Worker) keep(job executor.Job, s *Stand) bool {
	if !w.KeepFailed {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = map[planner.Op]*Stand{}
	}
	w.failed[job.Op] = s
	return true
}

// Failed is the container of a job whose command failed, as that left it, or nil. It is the caller's now.
func (w *Worker) Failed(job executor.Job) *Stand {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.failed[job.Op]
	delete(w.failed, job.Op)
	return s
}

// toolDir is where a container whose image has no shell gets one. Busybox makes a link there for each of its commands.
const toolDir = "/.forge"

// Shell starts a shell in the container, with a terminal of a size in characters. If the image has none, it is that of toolbox, a statically
// linked busybox of this machine; "" is none. It can be called again when the process has ended.
func (s *Stand) Shell(ctx context.Context, t container.Terminal, toolbox string, io runtime.Stdio) (*runtime.Process, error) {
	if shell := s.container.Find("bash", "sh"); shell != "" {
		return s.container.StartTerminal(ctx, []string{shell}, t, io)
	}
	if toolbox == "" {
		return nil, errors.New("the image has no shell, and this machine has no busybox that is linked statically: " +
			"install one (busybox-static), or name one with FORGE_BUSYBOX=PATH")
	}
	busybox := toolDir + "/busybox"
	if !s.tools {
		if err := s.container.Mount(ctx,
			&container.Tmpfs{Target: toolDir, Options: runtime.Tmpfs{Size: 1 << 20, Mode: 0o777}},
			&container.Bind{Source: toolbox, Target: busybox, ReadOnly: true},
		); err != nil {
			return nil, err
		}
		s.tools = true
	}
	return s.container.StartTerminal(ctx, []string{
		busybox, "sh", "-c", busybox + " --install -s " + toolDir + "; PATH=$PATH:" + toolDir + " exec " + busybox + " sh",
	}, t, io)
}

// Close gives the container back, and forgets what was written in it.
func (s *Stand) Close() (err error) {
	if s.container != nil {
		err = s.container.Close()
	}
	return errors.Join(err, s.draft.Close())
}
