package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
)

type historyCmd struct {
	Image   string `arg:"" help:"Name, ID or digest of an image."`
	NoTrunc bool   `name:"no-trunc" help:"Whole lines."`
	Quiet   bool   `short:"q" help:"Only IDs."`
	Human   bool   `short:"H" default:"true" negatable:"" help:"Sizes and dates for people."`
	Format  string `help:"A Go template, or json." placeholder:"TEMPLATE"`

	Platform string `help:"Which image of an index." placeholder:"OS/ARCH"`
}

// A historyRow is what a template of `forge history --format` sees, under docker's names.
type historyRow struct{ ID, CreatedSince, CreatedAt, CreatedBy, Size, Comment string }

func (c *historyCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		id, entries, err := h.History(s.ctx, c.Image, c.Platform)
		if err != nil {
			return err
		}
		rows := make([]historyRow, len(entries))
		for i, e := range entries {
			rows[i] = c.row(e)
		}
		if len(rows) > 0 {
			rows[0].ID = c.id(id.String())
		}
		format := "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
		if c.Quiet {
			format = "{{.ID}}"
		}
		return printRows(s, tableOr(c.Format, format), rows, historyRow{"IMAGE", "CREATED", "CREATED AT", "CREATED BY", "SIZE", "COMMENT"})
	})
}

func (c *historyCmd) row(e forge.HistoryEntry) historyRow {
	row := historyRow{ID: "<missing>", CreatedSince: "N/A", CreatedBy: c.line(e.CreatedBy), Size: "0B", Comment: e.Comment}
	if e.Created != nil {
		row.CreatedAt = e.Created.Format(time.RFC3339)
		row.CreatedSince = row.CreatedAt
		if c.Human {
			row.CreatedSince = units.HumanDuration(time.Since(*e.Created)) + " ago"
		}
	}
	if !e.EmptyLayer {
		row.Size = fmt.Sprint(e.Size)
		if c.Human {
			row.Size = units.HumanSizeWithPrecision(float64(e.Size), 3)
		}
	}
	return row
}

func (c *historyCmd) id(id string) string {
	if c.NoTrunc {
		return id
	}
	return shortID(id)
}

// line is a command on one line, cut where a terminal would wrap.
func (c *historyCmd) line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); !c.NoTrunc && len(r) > 45 {
		return string(r[:44]) + "…"
	}
	return s
}
