package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/event"
)

// traceFlags say where to write what took how long.
type traceFlags struct {
	Trace []string `sep:"none" help:"Write where the time went: FILE.html is a page, FILE.json is for Chrome and Perfetto. OTEL_EXPORTER_OTLP_ENDPOINT sends it to a collector besides." placeholder:"FILE"`
}

// A tracer writes the traces of a build when that has ended.
type tracer struct {
	files     []string
	collector *forge.Collector
	build     string // its ID
}

// tracer refuses what could not be written later.
func (f traceFlags) tracer() (*tracer, error) {
	for _, path := range f.Trace {
		if err := forge.CheckTrace(path); err != nil {
			return nil, badUsage(err)
		}
	}
	collector, err := forge.EnvironmentCollector()
	return &tracer{files: f.Trace, collector: collector}, err
}

// watch notes which build it is.
func (t *tracer) watch(next event.Sink) event.Sink {
	return func(e event.Event) {
		if t.build == "" {
			t.build = e.Build
		}
		next(e)
	}
}

// write writes and sends the traces, also of a build that somebody has ended. That a collector does not take them, or
// that there is nothing for it because the events could not be kept, is no fault of the build.
func (t *tracer) write(s *session, h *forge.Home) error {
	if len(t.files) == 0 && t.collector == nil || t.build == "" {
		return nil
	}
	ctx := context.WithoutCancel(s.ctx)
	warn := func(err error) { _, _ = fmt.Fprintf(s.err, "forge: warning: %s\n", ui.Lines(err.Error())) }
	trace, err := h.Trace(ctx, t.build)
	if err != nil {
		err = fmt.Errorf("trace: %w", err)
		if len(t.files) == 0 {
			warn(err)
			err = nil
		}
		return err
	}
	var errs []error
	for _, path := range t.files {
		errs = append(errs, forge.WriteTrace(ctx, trace, path))
	}
	if t.collector != nil {
		if err := t.collector.Send(ctx, trace); err != nil {
			warn(err)
		}
	}
	return errors.Join(errs...)
}

type buildsTraceCmd struct {
	Args []string `arg:"" help:"File to write, .html or .json; before it, which build, if not the last." placeholder:"[ID] FILE"`
}

func (c *buildsTraceCmd) Run(s *session) error {
	ref, path := "", c.Args[0]
	switch len(c.Args) {
	case 1:
	case 2:
		ref, path = c.Args[0], c.Args[1]
	default:
		return badUsage(errors.New("builds trace takes a build and a file: forge builds trace [ID] FILE"))
	}
	if err := forge.CheckTrace(path); err != nil {
		return badUsage(err)
	}
	return s.withHome(func(h *forge.Home) error {
		trace, err := h.Trace(s.ctx, ref)
		if err != nil {
			return err
		}
		return forge.WriteTrace(s.ctx, trace, path)
	})
}
