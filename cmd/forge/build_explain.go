package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/event"
)

// explainFlags ask why steps are done.
type explainFlags struct {
	Explain explainFlag `help:"Say of each step that runs what has changed since the cache could answer it: text (alone), or json, a line a step on standard output." placeholder:"FORM"`
	Why     string      `help:"Build nothing, and say of a step of the last build of this context or name why it ran: its number, a stage or [FILE]:LINE." placeholder:"STEP"`
}

// An explainFlag is how to explain. It may stand alone.
type explainFlag string

// Decode implements kong.MapperValue.
func (f *explainFlag) Decode(ctx *kong.DecodeContext) error {
	*f = "text"
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch value := fmt.Sprint(ctx.Scan.Pop().Value); value {
	case "true", "text":
	case "false":
		*f = ""
	case "json":
		*f = "json"
	default:
		return fmt.Errorf("%q: must be text or json", value)
	}
	return nil
}

// IsBool tells kong that the value may be left out.
func (f *explainFlag) IsBool() bool { return true }

// explained prints explanations as JSON, if that was asked for, and passes everything else on.
func (f explainFlags) explained(s *session, show event.Sink) event.Sink {
	if f.Explain != "json" {
		return show
	}
	enc := json.NewEncoder(jsonWriter{s.out})
	enc.SetEscapeHTML(false)
	return func(e event.Event) {
		switch {
		case e.Kind != event.Explain:
			show(e)
		case e.Why != nil:
			_ = enc.Encode(forge.StepReport{Build: e.Build, Step: e.Step, State: event.Started, Why: e.Why})
		}
	}
}

// why says why steps of an earlier build ran.
func (c *buildCmd) why(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		o := forge.WhyOptions{Step: c.Why, Names: c.Tag, Context: c.Context, Target: c.Target}
		reports, err := h.Why(s.ctx, o)
		if err != nil {
			return err
		}
		if c.Format == "json" {
			enc := json.NewEncoder(jsonWriter{s.out})
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(reports)
		}
		for _, r := range reports {
			if err := printReport(s.out, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// printReport prints what a build did with a step, and below it why.
func printReport(w io.Writer, r *forge.StepReport) error {
	took := r.Duration.Round(time.Millisecond)
	if took == 0 {
		took = r.Duration.Round(time.Microsecond)
	}
	said, lines := "", []string(nil)
	switch r.State {
	case event.Cached:
		said = "was answered from the cache"
		if r.Place != "" {
			said = "was answered by the cache " + r.Place
		}
		if r.Step.Kind == event.Base {
			said = "was in the store"
		}
		if !r.Made.IsZero() {
			lines = append(lines, fmt.Sprintf("the answer is of %s, and took %s then", shownTime(r.Made), took))
		}
	case event.Done:
		said = fmt.Sprintf("ran for %s", took)
	case event.Failed:
		said = "failed"
	case event.Canceled:
		said = "was cancelled when another step failed, or somebody ended the build"
	case event.Started:
		said = "has no end: the build runs, or was killed"
	default:
		said = "was not reached"
	}
	if why := r.Why; why != nil {
		if !why.Before.IsZero() {
			lines = append(lines, fmt.Sprintf("since the nearest answer in the cache, of %s:", shownTime(why.Before)))
		}
		lines = append(lines, why.Lines()...)
	}
	_, err := fmt.Fprintf(w, "%s\n  %s\n", ui.Lines(strings.Join(strings.Fields(r.Step.Title()), " ")), said)
	for _, line := range lines {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s\n", ui.Line(line))
		}
	}
	return err
}

func shownTime(t time.Time) string { return t.Local().Format(time.DateTime) }
