package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/event"
)

type systemCmd struct {
	Fsck     fsckCmd     `cmd:"" help:"Look for damage."`
	Prune    pruneCmd    `cmd:"" help:"Remove what nothing needs."`
	DF       dfCmd       `cmd:"" name:"df" help:"Show what takes how much room."`
	Info     infoCmd     `cmd:"" help:"The same as forge info."`
	Boot     bootCmd     `cmd:"" help:"Start the containers that are to run after the machine was started."`
	Shutdown shutdownCmd `cmd:"" help:"Stop all containers as the machine is to stop: the next system boot starts those that are to run."`
	Unit     unitCmd     `cmd:"" help:"Print a unit for systemd: for system boot and shutdown, or for a container."`
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
			_, _ = fmt.Fprintln(s.out, ui.Line(p))
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
	Filter  []string `sep:"none" help:"until=TIME: only what was made before and, of the cache, was not used since. label=K[=V], label!=K[=V]: only containers, images and volumes that have it, or not." placeholder:"KEY=VALUE"`
	MaxSize string   `help:"Keep this much of the cache, the most recently used, and with until= all that was used since." placeholder:"BYTES"`
	Volumes bool     `help:"Volumes without a name that no container uses, too."`

	only forge.PruneKind
}

func (c *pruneCmd) Run(s *session) error {
	o := forge.PruneOptions{Only: c.only, All: c.All, Filters: c.Filter, MaxSize: c.MaxSize, Volumes: c.Volumes}
	if err := o.Check(); err != nil {
		return err
	}
	o.Events = func(e event.Event) { _, _ = fmt.Fprintln(s.err, "forge:", ui.Line(e.Text)) }
	if !c.Force {
		if err := s.withHome(func(h *forge.Home) error { return forecast(s, h, o) }); err != nil {
			return err
		}
	}
	if ok, err := confirmed(s, c.Force, c.what()); err != nil || !ok {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		gone, bytes, err := c.containers(s, h)
		if err != nil {
			return err
		}
		for _, id := range gone {
			_, _ = fmt.Fprintln(s.out, "Deleted: container", id)
		}
		networks, err := c.networks(s, h)
		if err != nil {
			return err
		}
		for _, name := range networks {
			_, _ = fmt.Fprintln(s.out, "Deleted: network", name)
		}
		r, err := h.Prune(s.ctx, o)
		r.Bytes += bytes
		for _, line := range r.Removed {
			_, _ = fmt.Fprintln(s.out, "Deleted:", ui.Line(line))
		}
		for _, line := range r.Left {
			_, _ = fmt.Fprintln(s.out, "Left:", ui.Line(line))
		}
		_, _ = fmt.Fprintln(s.out, "Total reclaimed space:", units.HumanSize(float64(r.Bytes)))
		return err
	})
}

// forecast lists what would go, a line for each kind, and how much that frees.
func forecast(s *session, h *forge.Home, o forge.PruneOptions) error {
	rows, err := h.PruneForecast(s.ctx, o)
	if err != nil {
		return err
	}
	var total int64
	w := tabwriter.NewWriter(s.err, 0, 1, 2, ' ', 0)
	for _, k := range rows {
		total += k.Bytes
		free := ""
		if k.Bytes > 0 {
			free = size(k.Bytes)
		}
		_, _ = fmt.Fprintf(w, "  %s\t%d\t%s\n", k.Name, k.Count, free)
	}
	_, _ = fmt.Fprintf(w, "  frees at least\t\t%s\n", size(total))
	return w.Flush()
}

// what says in words what goes.
func (c *pruneCmd) what() string {
	var what string
	switch {
	case c.only == forge.PruneCache && c.All:
		return "the whole build cache, and cache mounts"
	case c.only == forge.PruneCache:
		return "the build cache"
	case c.only == forge.PruneImages && c.All:
		return "all images that no container uses"
	case c.only == forge.PruneImages:
		return "images without a name"
	case c.All:
		what = "all stopped containers, all networks and images that no container uses, and the whole cache"
	default:
		what = "all stopped containers, networks that no container uses, images without a name, cache entries without a layer, and garbage"
	}
	if c.Volumes {
		what += ", and volumes without a name that no container uses"
	}
	return what
}

// containers removes the containers that do not run.
func (c *pruneCmd) containers(s *session, h *forge.Home) ([]string, int64, error) {
	if c.only != "" {
		return nil, 0, nil
	}
	return h.PruneContainers(s.ctx, c.Filter)
}

// networks removes the networks that no container is connected to.
func (c *pruneCmd) networks(s *session, h *forge.Home) ([]string, error) {
	if c.only != "" {
		return nil, nil
	}
	return h.PruneNetworks(s.ctx, c.Filter)
}

type dfCmd struct {
	Verbose bool   `short:"v" help:"Every blob, and who holds it."`
	Format  string `help:"A Go template, or json." placeholder:"TEMPLATE"`
}

func (c *dfCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		usage, err := h.DiskUsage(s.ctx)
		if err != nil {
			return err
		}
		if c.Verbose && c.Format == "json" {
			return json.NewEncoder(jsonWriter{s.out}).Encode(usage)
		}
		var rows []dfRow
		for _, k := range usage.Kinds {
			row := dfRow{Type: k.Name, TotalCount: strconv.Itoa(k.Count), Active: strconv.Itoa(k.Active), Size: size(k.Bytes), Reclaimable: size(k.Reclaimable)}
			if k.Bytes > 0 {
				row.Reclaimable += fmt.Sprintf(" (%d%%)", k.Reclaimable*100/k.Bytes)
			}
			rows = append(rows, row)
		}
		table := "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
		if err := printRows(s, tableOr(c.Format, table), rows, dfRow{"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"}); err != nil || !c.Verbose {
			return err
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, "\nBLOB\tSIZE\tUNIQUE\tHELD BY")
		for _, b := range usage.Blobs {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", shortID(b.Digest.String()), size(b.Bytes),
				strconv.FormatBool(len(b.HeldBy) <= 1), strings.Join(b.HeldBy, " "))
		}
		return w.Flush()
	})
}

// A dfRow is what a template of `forge system df --format` sees, under docker's names.
type dfRow struct{ Type, TotalCount, Active, Size, Reclaimable string }

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
