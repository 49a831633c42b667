package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
)

// hostname is what a RUN calls its machine unless it is told. It is BuildKit's, so that what a command makes of it comes
// out the same.
const hostname = "buildkitsandbox"

// doRun prepares a draft, runs the command in it and commits what it wrote.
func (w *Worker) doRun(ctx context.Context, job executor.Job, log io.Writer) (r executor.Result, err error) {
	s, err := w.Stand(ctx, job)
	if err != nil {
		return r, err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, s.Close())
		}
	}()
	// The command's work is its own, and it may only wait: for a network, or for the cache mount that another holds. So
	// nothing is begun before it has ended.
	if r.Usage, err = w.runCommand(ctx, s.container, log); err != nil {
		if _, ran := errors.AsType[*executor.ExitError](err); ran {
			kept = w.keep(job, s)
		}
		return r, err
	}
	s.container.UsedCaches(ctx)
	end, err := w.begin(ctx)
	if err != nil {
		return r, err
	}
	defer end()
	if err := failpoint.At("local.run.before-commit"); err != nil {
		return r, err
	}
	r.Layer, err = s.draft.Commit(ctx, job.Epoch)
	if text := s.draft.Dropped(); err == nil && text != "" {
		_, err = fmt.Fprintln(log, "forge:", text)
	}
	return r, err
}

// runCommand runs the command and streams what it prints, standard output and error as one, in order.
func (w *Worker) runCommand(ctx context.Context, c *container.Container, log io.Writer) (*event.Usage, error) {
	said := listener{w: log}
	p, err := c.Start(ctx, runtime.Stdio{Out: &said, Err: &said})
	if failure, ok := errors.AsType[*container.CommandError](err); ok {
		return nil, &executor.ExitError{Code: failure.Code, Err: err}
	}
	if err != nil {
		return nil, err
	}
	exit, err := p.Wait()
	u := p.Usage()
	used := &event.Usage{CPU: u.CPU, Memory: u.MaxRSS, Read: u.Read, Written: u.Written}
	switch {
	case ctx.Err() != nil:
		return used, context.Cause(ctx)
	case err != nil:
		return used, err
	case exit.Code != 0 && c.Network.Missing != nil && !exit.OOM:
		return used, &executor.ExitError{Code: exit.Code, Err: fmt.Errorf("it had no network but loopback: %w", c.Network.Missing)}
	case exit.Code != 0:
		return used, &executor.ExitError{Code: exit.Code, OOM: exit.OOM, Err: w.reason(c, exit.Code, &said)}
	}
	return used, nil
}

// runOptions says what the command needs.
func (w *Worker) runOptions(ctx context.Context, job executor.Job, op *planner.Run) (o container.Options, err error) {
	security := w.Security
	security.Privileged = op.Insecure
	o = container.Options{
		Process:  container.Process{Args: op.Args, Env: runEnv(op), Dir: op.Dir, User: op.User, Platform: op.Platform},
		Hostname: cmp.Or(op.Hostname, hostname),
		Hosts:    w.Hosts,
		Network:  cmp.Or(op.Network, "default"),
		Limits:   w.Limits,
		Security: security,
	}
	for _, d := range op.Devices {
		o.Devices = append(o.Devices, container.Device{Name: d.Name, Required: d.Required, Granted: w.Allow.Device(d.Name)})
	}
	if o.Files, err = w.Inputs.Layers.View(ctx, job.On); err != nil {
		return o, err
	}
	o.Mounts, err = w.runMounts(ctx, job, op)
	return o, err
}

// runEnv is what the build file says, and the proxies that the caller has given where it says nothing.
func runEnv(op *planner.Run) []string {
	env := slices.Clone(op.Env)
	for _, kv := range op.Proxy {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(op.Env, func(own string) bool { return strings.HasPrefix(own, name+"=") }) {
			env = append(env, kv)
		}
	}
	return env
}
