package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/event"
)

type buildsCmd struct {
	Ls    buildsLsCmd    `cmd:"" aliases:"list" default:"withargs" help:"List the last builds."`
	Logs  buildsLogsCmd  `cmd:"" help:"Show what a build, or a step of it, has printed."`
	Trace buildsTraceCmd `cmd:"" help:"Write where the time of a build went, as a page or for Chrome."`
	Rm    buildsRmCmd    `cmd:"" aliases:"remove" help:"Remove what is kept of builds. Images and cache stay."`
	Prune buildsPruneCmd `cmd:"" help:"Remove what is kept of all builds but the last ones. Images and cache stay."`
}

type buildsLsCmd struct {
	Quiet  bool   `short:"q" help:"Only IDs."`
	Format string `help:"A Go template, or json." placeholder:"TEMPLATE"`
}

// A buildRow is what a template of `forge builds ls --format` sees.
type buildRow struct {
	ID, Name, Status, Steps, Cached, Ran, CreatedAt, Created, Duration, Error, Size string
}

func (c *buildsLsCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		all, err := h.Builds().List()
		if err != nil {
			return err
		}
		now := time.Now()
		var rows []buildRow
		for _, b := range all {
			r := buildRow{
				ID: b.ID, Status: string(b.State), CreatedAt: b.Time.Local().Format(time.RFC3339),
				Created: units.HumanDuration(max(0, now.Sub(b.Time))) + " ago", Error: ui.Lines(b.End.Error), Size: units.HumanSize(float64(b.Bytes)),
			}
			if b.Begin != nil {
				r.Name = b.Begin.Name()
			}
			if d := b.Duration(now); d > 0 {
				r.Duration = fmt.Sprintf("%.1fs", d.Seconds())
			}
			if t := b.End.Totals; t != nil {
				r.Steps, r.Cached, r.Ran = strconv.Itoa(t.Steps), strconv.Itoa(t.Cached), strconv.Itoa(t.Done)
			}
			rows = append(rows, r)
		}
		format := c.Format
		if c.Quiet && format == "" {
			format = "{{.ID}}"
		}
		return printRows(s, tableOr(format, "table {{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Steps}}\t{{.Cached}}\t{{.Created}}\t{{.Duration}}"), rows, buildRow{
			ID: "BUILD ID", Name: "NAME", Status: "STATUS", Steps: "STEPS", Cached: "CACHED", Ran: "RAN", CreatedAt: "CREATED AT", Created: "CREATED",
			Duration: "DURATION", Error: "ERROR", Size: "SIZE",
		})
	})
}

type buildsLogsCmd struct {
	ID     string `arg:"" optional:"" help:"ID of a build, or its beginning, or ^N for the one N before the last; the last if not given."`
	Step   string `arg:"" optional:"" help:"Number of a step, as the build has shown it; all if not given." placeholder:"STEP"`
	Format string `help:"text, or json: the events themselves, one a line." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

func (c *buildsLogsCmd) Run(s *session) error {
	step := 0
	if c.Step != "" {
		var err error
		if step, err = strconv.Atoi(strings.TrimPrefix(c.Step, "#")); err != nil || step < 1 {
			return badUsage(fmt.Errorf("step %q: must be the number of a step, such as 3", c.Step))
		}
	}
	return s.withHome(func(h *forge.Home) error {
		b, err := h.Builds().Find(c.ID)
		if err != nil {
			return err
		}
		events, known := b.Events(), step == 0
		if step > 0 {
			events = ofStep(events, step, &known)
		}
		switch {
		case c.Format == "json":
			err = printEvents(s, events)
		case step > 0:
			err = printLog(s, events)
		default:
			show := ui.New("log", s.out)
			for e, failed := range events {
				if err = failed; err == nil {
					show.Event(e)
				}
			}
			show.Close()
		}
		if err == nil && !known {
			return fmt.Errorf("build %s has no step %d; see forge builds logs %s", b.ID, step, b.ID)
		}
		return err
	})
}

// ofStep are the events of one step. It says whether there was any.
func ofStep(events iter.Seq2[event.Event, error], step int, known *bool) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		for e, err := range events {
			if err != nil {
				yield(e, err)
				return
			}
			if e.Step == nil || e.Step.Number != step {
				continue
			}
			if *known = true; !yield(e, nil) {
				return
			}
		}
	}
}

// printEvents prints events as they are kept.
func printEvents(s *session, events iter.Seq2[event.Event, error]) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := (jsonWriter{s.out}).Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// printLog prints the lines of one step as its command has printed them.
func printLog(s *session, events iter.Seq2[event.Event, error]) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		if e.Kind != event.Log {
			continue
		}
		if _, err := fmt.Fprintln(s.out, ui.Lines(e.Text)); err != nil {
			return err
		}
	}
	return nil
}

type buildsRmCmd struct {
	IDs []string `arg:"" name:"id" help:"IDs of builds, or their beginnings." placeholder:"ID"`
}

func (c *buildsRmCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		removed, err := h.Builds().Remove(c.IDs...)
		for _, id := range removed {
			_, _ = fmt.Fprintln(s.out, id)
		}
		return err
	})
}

type buildsPruneCmd struct {
	Force bool `short:"f" help:"Do not ask."`
	Keep  int  `help:"How many of the last builds stay." default:"0" placeholder:"N"`
}

func (c *buildsPruneCmd) Run(s *session) error {
	if c.Keep < 0 {
		return badUsage(fmt.Errorf("--keep %d: must be 0 or more", c.Keep))
	}
	what := "what is kept of all builds"
	if c.Keep > 0 {
		what += fmt.Sprintf(" but the last %d", c.Keep)
	}
	if ok, err := confirmed(s, c.Force, what); err != nil || !ok {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		removed, freed, err := h.Builds().Prune(c.Keep)
		slices.Reverse(removed)
		for _, id := range removed {
			_, _ = fmt.Fprintln(s.out, id)
		}
		_, _ = fmt.Fprintln(s.out, "Total reclaimed space:", units.HumanSize(float64(freed)))
		return err
	})
}
