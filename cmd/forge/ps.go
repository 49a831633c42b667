package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/forge-build/forge"
)

type psCmd struct {
	All     bool     `short:"a" help:"Show containers that do not run, too."`
	Latest  bool     `short:"l" help:"Show the container that was created last, in any state."`
	Last    int      `short:"n" help:"Show the last N, in any state." default:"-1" placeholder:"N"`
	Quiet   bool     `short:"q" help:"Show IDs only."`
	Size    bool     `short:"s" help:"Show sizes."`
	NoTrunc bool     `help:"Do not shorten."`
	Filter  []string `short:"f" sep:"none" help:"id, name, label, status, exited, ancestor, before, since, volume, network, publish, expose or health." placeholder:"KEY=VALUE"`
	Format  string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
}

// A psRow is what a template of `forge ps --format` sees, under docker's names.
type psRow struct {
	ID, Image, Command, CreatedAt, RunningFor, State, Status, Ports, Names, Size, Labels, Mounts, Networks, LocalVolumes string

	Platform any // docker's null

	labels map[string]string
}

// Label is the value of a label.
func (r psRow) Label(name string) string { return r.labels[name] }

const (
	psTable     = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
	psSizeTable = psTable + "\t{{.Size}}"
)

func (c *psCmd) Run(s *session) error {
	o := forge.ListOptions{All: c.All, Last: c.Last, Filters: c.Filter, Size: c.Size || strings.Contains(c.Format, ".Size")}
	if c.Latest {
		o.Last = 1
	}
	return s.withHome(func(h *forge.Home) error {
		list, err := h.Containers(s.ctx, o)
		if err != nil {
			return err
		}
		return c.print(s, list)
	})
}

func (c *psCmd) print(s *session, list []forge.ContainerInfo) error {
	format := c.Format
	switch {
	case c.Quiet && format == "":
		format = "{{.ID}}"
	case format == "" && c.Size:
		format = psSizeTable
	case format == "" || format == "table":
		format = psTable
	}
	rows := make([]psRow, 0, len(list))
	for i := range list {
		rows = append(rows, c.row(&list[i]))
	}
	return printRows(s, format, rows, psRow{
		ID: "CONTAINER ID", Image: "IMAGE", Command: "COMMAND", CreatedAt: "CREATED AT", RunningFor: "CREATED", State: "STATE",
		Status: "STATUS", Ports: "PORTS", Names: "NAMES", Size: "SIZE", Labels: "LABELS", Mounts: "MOUNTS", Networks: "NETWORKS",
		LocalVolumes: "LOCAL VOLUMES", Platform: "PLATFORM",
	})
}

func (c *psCmd) row(i *forge.ContainerInfo) psRow {
	v := i.View(time.Now())
	if !c.NoTrunc {
		v = v.Short()
	}
	return psRow{
		ID: v.ID, Image: v.Image, Command: fmt.Sprintf("%q", v.Command), CreatedAt: i.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		RunningFor: v.RunningFor, State: string(i.Status), Status: v.Status, Ports: v.Ports, Names: i.Name, Size: v.Size,
		Labels: v.Labels, Mounts: v.Mounts, Networks: v.Networks, LocalVolumes: v.LocalVolumes, labels: i.Labels,
	}
}
