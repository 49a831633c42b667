package forge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/forge-build/forge/event/trace"
	"github.com/forge-build/forge/internal/durable"
)

// A Trace is where the time of a build went.
type Trace = trace.Trace

// traceForm is how a file shows a trace, by its name.
func traceForm(path string) (func(*Trace, io.Writer) error, error) {
	switch filepath.Ext(path) {
	case ".html", ".htm":
		return (*Trace).HTML, nil
	case ".json":
		return (*Trace).Chrome, nil
	}
	return nil, fmt.Errorf("trace %s: the name must end in .html, for a page, or in .json, for Chrome and Perfetto", path)
}

// CheckTrace refuses a file for a trace that could not be written.
func CheckTrace(path string) error {
	if _, err := traceForm(path); err != nil {
		return err
	}
	if err := durable.CheckOutput(path); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}

// WriteTrace writes a trace to a file: a page (.html), or trace events for Chrome and Perfetto (.json).
func WriteTrace(ctx context.Context, t *Trace, path string) error {
	write, err := traceForm(path)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := write(t, &b); err != nil {
		return err
	}
	if err := durable.WriteOutput(ctx, path, b.Bytes()); err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}

// Trace is that of a build that is kept: by its ID, the beginning of it, or ^N. What made its steps run is found out as Why does.
func (h *Home) Trace(ctx context.Context, ref string) (*Trace, error) {
	r, err := h.Builds().Find(ref)
	if err != nil {
		return nil, err
	}
	t := &Trace{}
	reports := map[int]*StepReport{} // by Step.Number
	for e, err := range r.Events() {
		if err != nil {
			return nil, err
		}
		t.Event(e)
		if e.Step != nil {
			if reports[e.Step.Number] == nil {
				reports[e.Step.Number] = &StepReport{Build: r.ID}
			}
			reports[e.Step.Number].apply(e)
		}
	}
	for _, s := range t.Steps() {
		report := reports[s.Number]
		if err := h.explain(ctx, report, r.Time, reports); err != nil {
			return nil, err
		}
		s.Why = report.Why
	}
	return t, nil
}

// A Collector is where traces are sent to.
type Collector = trace.Collector

// EnvironmentCollector is the collector that the environment names (OTEL_EXPORTER_OTLP_ENDPOINT), nil if it names none.
func EnvironmentCollector() (*Collector, error) { return trace.ParseCollector(os.Getenv) }
