package forge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/runtime"
)

// ContainerStats are what a container uses.
type ContainerStats = runtime.Stats

// running does something to a container that must run.
func (h *Home) running(verb, ref string, do func(*containerRecord, *runtime.Target) error) error {
	r, run, status, err := h.findRun(ref)
	if err != nil {
		return err
	}
	if err := words.Refusal(verb, ref, r.ID, string(status)); err != nil {
		return err
	}
	err = onTarget(run.Ref, func(t *runtime.Target) error { return do(r, t) })
	if errors.Is(err, os.ErrProcessDone) {
		return words.Refusal(verb, ref, r.ID, string(state.Exited))
	}
	return err
}

// ContainerStats reads what a running container uses.
func (h *Home) ContainerStats(ref string) (s ContainerStats, err error) {
	err = h.running("top", ref, func(_ *containerRecord, t *runtime.Target) error {
		s, err = t.Stats()
		return err
	})
	return s, err
}

// TopContainer lists the processes of a running container with this machine's ps(1) and its options; "-ef" if there are none.
// The first line has the titles.
func (h *Home) TopContainer(ctx context.Context, ref string, options []string) (lines []string, err error) {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	err = h.running("top", ref, func(r *containerRecord, t *runtime.Target) error {
		pids, err := t.Processes()
		if err != nil {
			return err
		}
		if lines, err = psOf(ctx, options, pids); err == nil {
			h.containerEvent(r, "top")
		}
		return err
	})
	return lines, err
}

// psOf runs ps(1) and keeps the lines of some processes.
func psOf(ctx context.Context, options []string, pids []int) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ps", options...).Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("error running ps: %s", bytes.TrimSpace(e.Stderr))
		}
		return nil, fmt.Errorf("error running ps: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return nil, errors.New("Couldn't find PID field in ps output") //nolint:staticcheck // docker's words
	}
	kept := lines[:1]
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			kept = append(kept, line)
		}
	}
	return kept, nil
}

// UpdateOptions say what is to change of a container. What is zero stays as it is.
type UpdateOptions struct {
	LimitOptions
	BlkioWeight uint16 `name:"blkio-weight" help:"Share of the block devices, against others: 10 to 1000." placeholder:"N"`
	Restart     string `help:"no, always, unless-stopped or on-failure[:N]." placeholder:"POLICY"`
}

// UpdateContainer changes the limits of a container, also while it runs, and its restart policy.
func (h *Home) UpdateContainer(ctx context.Context, ref string, o UpdateOptions) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	err = h.containers().Change(ctx, r.ID, func(r *containerRecord) error {
		r.Config.LimitOptions = container.UpdateLimits(r.Config.LimitOptions, o.LimitOptions)
		r.Config.BlockOptions = container.UpdateBlockIO(r.Config.BlockOptions, o.BlkioWeight)
		if o.Restart != "" {
			r.Config.Restart = o.Restart
		}
		err := r.Config.LifeOptions.check()
		if err == nil {
			_, err = r.Config.parse()
		}
		if err != nil {
			return words.Invalid("%v", err)
		}
		return h.updateRunning(r.ID, &o)
	})
	if err != nil {
		return err
	}
	h.containerEvent(r, "update")
	return nil
}

// updateRunning changes the limits of a container's run, if there is one.
func (h *Home) updateRunning(id string, o *UpdateOptions) error {
	run, status, err := h.containers().Run(id)
	if err != nil || !status.Alive() {
		return err
	}
	limits, err := container.ParseLimits(o.LimitOptions)
	if err != nil {
		return err
	}
	limits.BlockIO.Weight = int(o.BlkioWeight)
	err = onTarget(run.Ref, func(t *runtime.Target) error { return t.Update(limits) })
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
