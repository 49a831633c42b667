package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
)

type imagesCmd struct {
	Name    string   `arg:"" optional:"" help:"Only images of this repository, or of this name."`
	All     bool     `short:"a" help:"Images without a name too."`
	Quiet   bool     `short:"q" help:"Only IDs."`
	NoTrunc bool     `name:"no-trunc" help:"Whole IDs."`
	Digests bool     `help:"Digests too."`
	Format  string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
	Filter  []string `short:"f" sep:"none" help:"dangling=true|false, label=K[=V], reference=PATTERN, before=IMAGE or since=IMAGE." placeholder:"KEY=VALUE"`
}

// An imageRow is what a template of `forge images --format` sees, under docker's names.
type imageRow struct {
	Repository, Tag, ID, Digest, CreatedSince, CreatedAt, Size string
}

func (c *imagesCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		all := c.All || slices.Contains(c.Filter, "dangling=true")
		infos, err := h.Images(s.ctx, forge.ImagesOptions{Name: c.Name, All: all, Filters: c.Filter})
		var rows []imageRow
		for _, info := range infos {
			rows = append(rows, c.row(info))
		}
		if err != nil && rows == nil {
			return err
		}
		return errors.Join(c.print(s, rows), err) // an error concerns some; the others are shown
	})
}

func (c *imagesCmd) row(info forge.ImageInfo) imageRow {
	row := imageRow{
		Repository: "<none>", Tag: "<none>", ID: info.ID.String(), Digest: "<none>",
		CreatedSince: "N/A", Size: units.HumanSizeWithPrecision(float64(info.Size), 3),
	}
	if info.Repository != "" {
		row.Repository, row.Tag = info.Repository, info.Tag
	}
	if info.Remote != "" {
		row.Digest = info.Remote.String()
	}
	if !c.NoTrunc {
		row.ID = shortID(row.ID)
	}
	if !info.Created.IsZero() {
		row.CreatedSince = units.HumanDuration(time.Since(info.Created)) + " ago"
		row.CreatedAt = info.Created.Format(time.RFC3339)
	}
	return row
}

// shortID is how an ID is shown: 12 digits.
func shortID(id string) string {
	_, hex, ok := strings.Cut(id, ":")
	if !ok {
		hex = id
	}
	return hex[:min(12, len(hex))]
}

func (c *imagesCmd) print(s *session, rows []imageRow) error {
	if c.Quiet {
		seen := map[string]bool{}
		for _, r := range rows {
			if !seen[r.ID] {
				seen[r.ID] = true
				_, _ = fmt.Fprintln(s.out, r.ID)
			}
		}
		return nil
	}
	format := "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	if c.Digests {
		format = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	}
	headers := imageRow{"REPOSITORY", "TAG", "IMAGE ID", "DIGEST", "CREATED", "CREATED AT", "SIZE"}
	return printRows(s, cmp.Or(c.Format, format), rows, headers)
}
