package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
)

// buildxCmd are buildx's commands where there is one builder, which is here and needs no instance.
type buildxCmd struct {
	LS      buildxLSCmd      `cmd:"" name:"ls" help:"List builders: there is one."`
	Inspect buildxInspectCmd `cmd:"" help:"Show the builder."`
	DU      buildxDUCmd      `cmd:"" name:"du" help:"Show what the build cache takes."`
	Prune   buildxPruneCmd   `cmd:"" help:"Remove the build cache."`
	Use     buildxUseCmd     `cmd:"" help:"Accept the name of the one builder."`
	Create  buildxMakeCmd    `cmd:"" hidden:""`
	RM      buildxMakeCmd    `cmd:"" name:"rm" hidden:""`
	Stop    buildxMakeCmd    `cmd:"" hidden:""`
}

// theBuilder is docker's name of the builder that is always there.
const theBuilder = "default"

// checkBuilder refuses the name of a builder that is not there; "" is whichever there is.
func checkBuilder(name string) error {
	if name == "" || name == theBuilder {
		return nil
	}
	return fmt.Errorf("no builder %q found: forge builds by itself and has one, %s", name, theBuilder)
}

type buildxLSCmd struct {
	Format string `help:"A Go template, or json." placeholder:"TEMPLATE"`
}

// A builderRow is what a template of `forge buildx ls --format` sees, under buildx's names.
type builderRow struct{ Name, DriverEndpoint, LastActivity, Status, Buildkit, Platforms string }

func (c *buildxLSCmd) Run(s *session) error {
	rows := []builderRow{{Name: theBuilder + "*", DriverEndpoint: "forge", Status: "running", Buildkit: versionText(), Platforms: forge.BuildPlatform()}}
	table := "table {{.Name}}\t{{.DriverEndpoint}}\t{{.Status}}\t{{.Buildkit}}\t{{.Platforms}}"
	headers := builderRow{"NAME/NODE", "DRIVER/ENDPOINT", "LAST ACTIVITY", "STATUS", "BUILDKIT", "PLATFORMS"}
	return printRows(s, tableOr(c.Format, table), rows, headers)
}

type buildxInspectCmd struct {
	Name      string `arg:"" optional:"" help:"Name of the builder." placeholder:"NAME"`
	Bootstrap bool   `hidden:""`
}

func (c *buildxInspectCmd) Run(s *session) error {
	if err := checkBuilder(c.Name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "Name:   %s\nDriver: forge\n\nNodes:\nName:      %s\nStatus:    running\nBuildKit version: %s\nPlatforms: %s\n",
		theBuilder, theBuilder, versionText(), forge.BuildPlatform())
	return err
}

type buildxDUCmd struct {
	Verbose bool `help:"Of each entry all that is known."`
}

func (c *buildxDUCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		list, err := h.BuildCache(s.ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(s.out, 1, 8, 1, '\t', 0)
		if !c.Verbose {
			_, _ = fmt.Fprintln(w, "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED")
		}
		var shared, total int64
		for i := range list {
			total += list[i].Bytes
			if list[i].Shared {
				shared += list[i].Bytes
			}
			c.row(w, &list[i])
		}
		if shared > 0 {
			_, _ = fmt.Fprintf(w, "Shared:\t%s\nPrivate:\t%s\n", units.HumanSize(float64(shared)), units.HumanSize(float64(total-shared)))
		}
		_, _ = fmt.Fprintf(w, "Reclaimable:\t%s\nTotal:\t%s\n", units.HumanSize(float64(total-shared)), units.HumanSize(float64(total)))
		return w.Flush()
	})
}

func (c *buildxDUCmd) row(w *tabwriter.Writer, u *forge.CacheUsage) {
	used, text := units.HumanDuration(time.Since(u.Used))+" ago", units.HumanSize(float64(u.Bytes))
	if c.Verbose {
		_, _ = fmt.Fprintf(w, "ID:\t%s\nCreated at:\t%s\nMutable:\tfalse\nReclaimable:\ttrue\nShared:\t%t\nSize:\t%s\nDescription:\t%s\nLast used:\t%s\n\n",
			u.ID, u.Created, u.Shared, text, u.Description, used)
		return
	}
	if u.Shared {
		text += "*"
	}
	_, _ = fmt.Fprintf(w, "%s\t%t\t%s\t%s\n", shortID(u.ID), true, text, used)
}

type buildxPruneCmd struct {
	All     bool     `short:"a" help:"Cache mounts, and what is known of build contexts, too."`
	Force   bool     `short:"f" help:"Do not ask."`
	Filter  []string `help:"until=DURATION: only what was not used since." placeholder:"KEY=VALUE"`
	MaxSize string   `aliases:"keep-storage,max-used-space" help:"Keep this much of the cache, the most recently used, and with until= all that was used since." placeholder:"BYTES"`
	Builder string   `hidden:""`
	Verbose bool     `hidden:""`
}

func (c *buildxPruneCmd) Run(s *session) error {
	if err := checkBuilder(c.Builder); err != nil {
		return err
	}
	prune := pruneCmd{All: c.All, Force: c.Force, Filter: c.Filter, MaxSize: c.MaxSize, only: forge.PruneCache}
	return prune.Run(s)
}

type buildxUseCmd struct {
	Name    string `arg:"" help:"Name of the builder." placeholder:"NAME"`
	Default bool   `hidden:""`
	Global  bool   `hidden:""`
}

func (c *buildxUseCmd) Run() error { return checkBuilder(c.Name) }

// buildxMakeCmd are commands that have nothing to make or to end.
type buildxMakeCmd struct {
	Args []string `arg:"" optional:"" passthrough:""`
}

func (c *buildxMakeCmd) Run() error {
	return fmt.Errorf("forge builds by itself, in the process of each build: it has one builder, %s, and none can be made, stopped or removed", theBuilder)
}
