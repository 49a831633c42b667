package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"strings"
	"syscall"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// hostname is what a RUN calls its machine unless it is told. It is the oracle's, so that what a command makes of it
// comes out the same.
const hostname = "buildkitsandbox"

// doRun draws up a draft, runs the command in it and commits what it wrote.
func (w *Local) doRun(ctx context.Context, job Job, op *planner.Run, log io.Writer) (layer image.Layer, err error) {
	if err := w.fetch(ctx, job.On); err != nil {
		return layer, err
	}
	draft, err := w.Snapshots.Draft(ctx, job.On, snapshot.DraftOptions{})
	if err != nil {
		return layer, err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()

	c := &command{local: w, job: job, op: op, draft: draft}
	defer func() { err = errors.Join(err, c.close()) }()
	spec, err := c.spec(ctx)
	if err != nil {
		return layer, err
	}
	if err := c.run(ctx, spec, log); err != nil {
		return layer, err
	}
	if err := failpoint.At("executor.run.before-commit"); err != nil {
		return layer, err
	}
	return draft.Commit(ctx, w.Epoch)
}

// A command is one RUN being prepared and run.
type command struct {
	local *Local
	job   Job
	op    *planner.Run
	draft *snapshot.Draft

	env     []string
	agent   bool // SSH_AUTH_SOCK is ours
	network StepNetwork
	mounts  []runtime.Mount
	places  []place        // where mount points below a mount are made
	started []func() error // called once the command runs: what is mounted needs no name any more
	closers []func() error // called at the end, last first
}

func (c *command) closing(f func() error) { c.closers = append(c.closers, f) }

func (c *command) close() error {
	var errs []error
	for len(c.closers) > 0 {
		last := len(c.closers) - 1
		errs = append(errs, c.closers[last]())
		c.closers = c.closers[:last]
	}
	return errors.Join(errs...)
}

// spec says what to run in what surroundings.
func (c *command) spec(ctx context.Context) (runtime.Spec, error) {
	root, err := c.draft.Mount(ctx)
	if err != nil {
		return runtime.Spec{}, err
	}
	user, err := c.local.user(ctx, c.job.On, c.op.User)
	if err != nil {
		return runtime.Spec{}, err
	}
	c.env = environment(c.op, user.Home)
	// The working directory before any mount point, because it stays in the layer and they do not.
	prepare := []func(context.Context) error{
		c.connect, c.mountDefaults, c.makeDir, c.mountScripts, c.mountRequested, c.mountDevices,
	}
	for _, f := range prepare {
		if err := f(ctx); err != nil {
			return runtime.Spec{}, err
		}
	}
	return runtime.Spec{
		Root: root, Args: c.op.Args, Env: c.env, Dir: c.op.Dir, User: user, Mounts: c.mounts, Hostname: cmp.Or(c.op.Hostname, hostname),
		Limits: runtime.Limits{
			Memory: c.op.Limits.Memory, NanoCPUs: c.op.Limits.NanoCPUs,
			ShmSize: c.op.Limits.ShmSize, Ulimits: c.op.Limits.Ulimits,
		},
		Security: runtime.Security{Privileged: c.op.Insecure},
		Network:  c.network.Network,
	}, nil
}

// connect gets the command its network.
func (c *command) connect(ctx context.Context) error {
	c.network.Mode = c.op.Network
	if c.op.Network == "none" || c.op.Network == "host" || c.local.Grants.Network == nil {
		return nil
	}
	var err error
	if c.network, err = c.local.Grants.Network(ctx); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if c.network.Close != nil {
		c.closing(c.network.Close)
	}
	return nil
}

// makeDir makes the working directory if there is none: a base image may name one that it does not have.
func (c *command) makeDir(context.Context) error {
	for _, p := range c.places {
		if within(c.op.Dir, p.target) {
			return nil
		}
	}
	if _, err := c.draft.Mountpoint(c.op.Dir, true, true); err != nil {
		return fmt.Errorf("working directory %s: %w", c.op.Dir, err)
	}
	return nil
}

// run runs the command and streams what it prints, standard output and error as one, in order.
func (c *command) run(ctx context.Context, spec runtime.Spec, log io.Writer) (err error) {
	r, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// A command that is not root may open /dev/stdout anew, which asks the pipe's owner.
	if err := own(out.Chown(int(spec.User.UID), int(spec.User.GID))); err != nil {
		return errors.Join(err, out.Close())
	}
	p, err := runtime.Start(ctx, spec, runtime.Stdio{Out: out, Err: out})
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return c.startError(err)
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(log, r)
		copied <- err
	}()
	var named []error
	for _, f := range c.started {
		named = append(named, f())
	}
	exit, err := p.Wait()
	// Everything that could write is gone by now, so that the copying ends.
	err = errors.Join(err, <-copied, errors.Join(named...))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case exit.Code != 0:
		return &ExitError{Code: exit.Code, OOM: exit.OOM}
	}
	return nil
}

// startError says why the command did not run, in the words and with the exit codes of a shell.
func (c *command) startError(err error) error {
	exec, ok := errors.AsType[*runtime.ExecError](err)
	if !ok {
		return err
	}
	host := goruntime.GOOS + "/" + goruntime.GOARCH
	if errors.Is(err, syscall.ENOEXEC) && c.op.Platform != "" && !strings.HasPrefix(c.op.Platform+"/", host+"/") {
		return fmt.Errorf("%w: this is %s, and no emulator for %s is registered with the kernel (binfmt_misc)",
			&execFailure{exec, 126}, host, c.op.Platform)
	}
	code := 126
	if errors.Is(err, os.ErrNotExist) {
		code = 127
	}
	return &execFailure{exec, code}
}

// execFailure is an ExecError that is an ExitError too: a step whose command cannot be executed fails as the command of
// a shell would.
type execFailure struct {
	err  *runtime.ExecError
	code int
}

func (e *execFailure) Error() string {
	if e.code == 127 && !strings.Contains(e.err.Path, "/") {
		return fmt.Sprintf("exit code %d: exec: %q: executable file not found in $PATH", e.code, e.err.Path)
	}
	return fmt.Sprintf("exit code %d: exec: %q: %v", e.code, e.err.Path, e.err.Err)
}

func (e *execFailure) Unwrap() []error { return []error{e.err, &ExitError{Code: e.code}} }
