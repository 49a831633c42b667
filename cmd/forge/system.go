package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event"
)

type systemCmd struct {
	Fsck  fsckCmd  `cmd:"" help:"Look for damage."`
	Prune pruneCmd `cmd:"" help:"Remove what nothing needs."`
	DF    dfCmd    `cmd:"" name:"df" help:"Show what takes how much room."`
	Info  infoCmd  `cmd:"" help:"The same as forge info."`
}

type fsckCmd struct {
	Deep   bool `help:"Hash every blob."`
	Repair bool `help:"Drop what is damaged; what can be made or fetched again will be."`
}

func (c *fsckCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		report, err := h.Fsck(s.ctx, forge.FsckOptions{Deep: c.Deep, Repair: c.Repair})
		if err != nil {
			return err
		}
		for _, p := range report.Problems {
			_, _ = fmt.Fprintln(s.out, p)
		}
		for _, name := range report.Dropped {
			_, _ = fmt.Fprintf(s.out, "dropped image %s: it could not be made whole\n", name)
		}
		switch n := len(report.Problems); {
		case n > 0 && c.Repair:
			_, _ = fmt.Fprintf(s.out, "%d problems, repaired\n", n)
		case n > 0:
			return fmt.Errorf("%d problems; forge system fsck --repair drops what is damaged", n)
		default:
			_, _ = fmt.Fprintf(s.out, "no problems; image names: %d\n", report.Images)
		}
		return nil
	})
}

type pruneCmd struct {
	All     bool     `short:"a" help:"Images that have a name but no container too, and the whole cache."`
	Force   bool     `short:"f" help:"Do not ask."`
	Filter  []string `help:"until=DURATION: only what was not used since." placeholder:"KEY=VALUE"`
	MaxSize string   `help:"Keep this much of the cache, the most recently used." placeholder:"BYTES"`
	Volumes bool     `hidden:""`
}

func (c *pruneCmd) Run(s *session) error {
	o := forge.PruneOptions{All: c.All, Filters: c.Filter, MaxSize: c.MaxSize}
	if err := o.Check(); err != nil {
		return err
	}
	if ok, err := c.confirmed(s); err != nil || !ok {
		return err
	}
	o.Events = func(e event.Event) { _, _ = fmt.Fprintln(s.err, "forge:", e.Text) }
	return s.withHome(func(h *forge.Home) error {
		r, err := h.Prune(s.ctx, o)
		for _, line := range r.Removed {
			_, _ = fmt.Fprintln(s.out, "Deleted:", line)
		}
		for _, line := range r.Left {
			_, _ = fmt.Fprintln(s.out, "Left:", line)
		}
		_, _ = fmt.Fprintln(s.out, "Total reclaimed space:", units.HumanSize(float64(r.Bytes)))
		return err
	})
}

func (c *pruneCmd) confirmed(s *session) (bool, error) {
	if c.Force {
		return true, nil
	}
	if !term.IsTerminal(int(s.in.Fd())) {
		return false, errors.New("prune: standard input is not a terminal: say -f")
	}
	what := "images without a name, cache entries without a layer, and garbage"
	if c.All {
		what = "all images and the whole cache"
	}
	_, _ = fmt.Fprintf(s.err, "This removes %s. Go on? [y/N] ", what)
	line, err := bufio.NewReader(s.in).ReadString('\n')
	if err != nil {
		return false, err
	}
	return strings.EqualFold(strings.TrimSpace(line), "y"), nil
}

type dfCmd struct {
	Verbose bool   `short:"v" help:"Every blob, and who holds it."`
	Format  string `help:"text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

func (c *dfCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		usage, err := h.DiskUsage(s.ctx)
		if err != nil {
			return err
		}
		if c.Format == "json" {
			return json.NewEncoder(s.out).Encode(usage)
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "TYPE\tTOTAL\tSIZE\tRECLAIMABLE")
		for _, k := range usage.Kinds {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", k.Name, k.Count, size(k.Bytes), size(k.Reclaimable))
		}
		if c.Verbose {
			_, _ = fmt.Fprintln(w, "\nBLOB\tSIZE\tUNIQUE\tHELD BY")
			for _, b := range usage.Blobs {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", shortID(b.Digest.String()), size(b.Bytes),
					strconv.FormatBool(len(b.HeldBy) <= 1), strings.Join(b.HeldBy, " "))
			}
		}
		return w.Flush()
	})
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
