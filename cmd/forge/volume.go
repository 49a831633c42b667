package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
)

type volumeCmd struct {
	Create  volumeCreateCmd  `cmd:"" help:"Make a volume."`
	LS      volumeLSCmd      `cmd:"" name:"ls" aliases:"list" help:"List volumes."`
	Inspect volumeInspectCmd `cmd:"" help:"Show everything about volumes, as JSON."`
	RM      volumeRMCmd      `cmd:"" name:"rm" aliases:"remove" help:"Remove volumes."`
	Prune   volumePruneCmd   `cmd:"" help:"Remove volumes that no container uses."`
}

type volumeCreateCmd struct {
	Driver  string   `short:"d" help:"local." default:"local" placeholder:"DRIVER"`
	Labels  []string `name:"label" short:"l" sep:"none" help:"Label." placeholder:"K[=V]"`
	Options []string `name:"opt" short:"o" sep:"none" help:"Option: o=bind and device=DIR are a directory of this machine; type=TYPE (tmpfs, nfs, ext4 …), device=DEVICE and o=OPTIONS, as mount has them, a file system that is mounted while a container uses it." placeholder:"K=V"`
	Name    string   `arg:"" optional:"" help:"Name; without one, 64 hexadecimal digits." placeholder:"VOLUME"`
}

func (c *volumeCreateCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		name, err := h.CreateVolume(s.ctx, forge.VolumeOptions{Name: c.Name, Driver: c.Driver, Labels: c.Labels, Options: c.Options})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, name)
		return err
	})
}

type volumeLSCmd struct {
	Filter []string `short:"f" sep:"none" help:"dangling=true|false, label=K[=V], name=PATTERN or driver=local." placeholder:"KEY=VALUE"`
	Format string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
	Quiet  bool     `short:"q" help:"Only names."`
}

// A volumeRow is what a template of `forge volume ls --format` sees, under docker's names and in docker's order.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string

	labels map[string]string
}

// Label is the value of a label.
func (r volumeRow) Label(name string) string { return r.labels[name] }

func (c *volumeLSCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		list, err := h.Volumes(c.Filter)
		if err != nil {
			return err
		}
		rows := make([]volumeRow, 0, len(list))
		for _, v := range list {
			rows = append(rows, volumeRow{
				Availability: "N/A", Driver: v.Driver, Group: "N/A", Labels: joinLabels(v.Labels), Links: "N/A",
				Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, Size: "N/A", Status: "N/A", labels: v.Labels,
			})
		}
		format := c.Format
		switch {
		case c.Quiet && format == "":
			format = "{{.Name}}"
		case format == "" || format == "table":
			format = "table {{.Driver}}\t{{.Name}}"
		}
		return printRows(s, format, rows, volumeRow{
			Availability: "AVAILABILITY", Driver: "DRIVER", Group: "GROUP", Labels: "LABELS", Links: "LINKS",
			Mountpoint: "MOUNTPOINT", Name: "VOLUME NAME", Scope: "SCOPE", Size: "SIZE", Status: "STATUS",
		})
	})
}

type volumeInspectCmd struct {
	Format string   `short:"f" help:"A Go template, or json." placeholder:"TEMPLATE"`
	Names  []string `arg:"" name:"volume" help:"Volumes."`
}

func (c *volumeInspectCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		var list []any
		var errs []error
		for _, name := range c.Names {
			v, err := h.Volume(name)
			if err != nil {
				errs = append(errs, err)
				continue // the others are shown, as docker does
			}
			list = append(list, v)
		}
		show := inspectCmd{Format: c.Format}
		return errors.Join(append(errs, show.print(s, list))...)
	})
}

type volumeRMCmd struct {
	Force bool     `short:"f" help:"No error for what is not there."`
	Names []string `arg:"" name:"volume" help:"Volumes."`
}

func (c *volumeRMCmd) Run(s *session) error {
	return each(s, c.Names, func(h *forge.Home, name string) error {
		err := h.RemoveVolume(s.ctx, name)
		if _, missing := errors.AsType[*forge.NoVolumeError](err); missing && c.Force {
			return nil
		}
		return err
	})
}

type volumePruneCmd struct {
	All    bool     `short:"a" help:"Volumes that have a name, too."`
	Filter []string `sep:"none" help:"label=K[=V] or label!=K[=V]." placeholder:"KEY=VALUE"`
	Force  bool     `short:"f" help:"Do not ask."`
}

func (c *volumePruneCmd) Run(s *session) error {
	o := forge.PruneVolumesOptions{All: c.All, Filters: c.Filter}
	if err := o.Check(); err != nil {
		return err
	}
	what := "anonymous local volumes"
	if o.All {
		what = "all local volumes"
	}
	if ok, err := confirmed(s, c.Force, what+" that no container uses"); err != nil || !ok {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		names, bytes, err := h.PruneVolumes(s.ctx, o)
		if len(names) > 0 {
			_, _ = fmt.Fprintf(s.out, "Deleted Volumes:\n%s\n\n", strings.Join(names, "\n"))
		}
		_, _ = fmt.Fprintln(s.out, "Total reclaimed space:", units.HumanSize(float64(bytes)))
		return err
	})
}
