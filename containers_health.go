package forge

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/image"
)

// healthCheck is how often a container is asked whether it is well; the zero value if it has no check.
func healthCheck(o *containerConfig, img *image.Image) monitor.HealthCheck {
	if len(healthCommand(o, img)) == 0 {
		return monitor.HealthCheck{}
	}
	h := monitor.HealthCheck{
		Interval: o.HealthInterval, Timeout: o.HealthTimeout, StartPeriod: o.HealthStartPeriod, StartInterval: o.HealthStartInterval,
		Retries: o.HealthRetries,
	}
	if i := img.Config.Config.Healthcheck; i != nil {
		h.Interval, h.Timeout = cmp.Or(h.Interval, i.Interval), cmp.Or(h.Timeout, i.Timeout)
		h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, i.StartPeriod), cmp.Or(h.StartInterval, i.StartInterval)
		h.Retries = cmp.Or(h.Retries, i.Retries)
	}
	return h.WithDefaults()
}

// healthCommand is what asks a container whether it is well, nil if nothing does.
func healthCommand(o *containerConfig, img *image.Image) []string {
	config := &img.Config.Config
	shell := config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	test := o.HealthTest
	if i := config.Healthcheck; i != nil && len(test) == 0 {
		test = i.Test
	}
	switch {
	case o.NoHealthcheck:
		return nil
	case o.HealthCmd != "":
		return append(slices.Clone(shell), o.HealthCmd)
	case len(test) < 2:
		return nil
	case test[0] == "CMD":
		return test[1:]
	case test[0] == "CMD-SHELL":
		return append(slices.Clone(shell), test[1])
	}
	return nil
}

// probe asks the container whether it is well.
func (k *keeper) probe(ctx context.Context, run *state.Run) (int, []byte, error) {
	out := bounded{max: 4096}
	p, err := k.home.join(ctx, k.record, run, ExecOptions{Args: healthCommand(&k.record.Config, k.image)}, Stdio{Out: &out, Err: &out}, nil)
	if e, ok := errors.AsType[*CommandError](err); ok {
		return e.Code, []byte(e.Text), nil
	}
	if err != nil {
		return 0, nil, err
	}
	exit, err := p.Wait()
	return exit.Code, out.b.Bytes(), err
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	b   bytes.Buffer
	max int
}

// Write never fails.
func (w *bounded) Write(p []byte) (int, error) {
	w.b.Write(p[:min(len(p), w.max-w.b.Len())])
	return len(p), nil
}
