package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type imagesCmd struct {
	Name    string   `arg:"" optional:"" help:"Only images of this repository, or of this name."`
	All     bool     `short:"a" help:"With --tree, images without a name, too; without it, they are always shown."`
	Tree    bool     `help:"The images of each index, too, and what they take."`
	Quiet   bool     `short:"q" help:"Only IDs."`
	NoTrunc bool     `name:"no-trunc" help:"Whole IDs."`
	Digests bool     `help:"Digests too."`
	Format  string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
	Filter  []string `short:"f" sep:"none" help:"dangling=true|false, label=K[=V], reference=PATTERN, before=IMAGE or since=IMAGE." placeholder:"KEY=VALUE"`
}

// An imageRow is what a template of `forge images --format` sees, under docker's names.
type imageRow struct {
	Repository, Tag, ID, Digest, CreatedSince, CreatedAt, Size, VirtualSize, Containers, SharedSize, UniqueSize string
}

func (c *imagesCmd) Run(s *session) error {
	if c.Tree && (c.Quiet || c.Format != "" || c.NoTrunc || c.Digests) {
		return badUsage(errors.New("--tree has a form of its own: it takes no --quiet, --format, --no-trunc or --digests"))
	}
	return s.withHome(func(h *forge.Home) error {
		o := forge.ImagesOptions{Name: c.Name, Filters: c.Filter}
		if c.Tree {
			return c.tree(s, h, o)
		}
		infos, err := h.Images(s.ctx, o)
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
		CreatedSince: "N/A", Size: size(info.Size), VirtualSize: units.HumanSize(float64(info.Size)),
		Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A",
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
		row.CreatedAt = info.Created.Local().Format("2006-01-02 15:04:05 -0700 MST")
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
	return printRows(s, tableOr(c.Format, format), rows, imageRow{
		Repository: "REPOSITORY", Tag: "TAG", ID: "IMAGE ID", Digest: "DIGEST", CreatedSince: "CREATED", CreatedAt: "CREATED AT",
		Size: "SIZE", VirtualSize: "SIZE", Containers: "CONTAINERS", SharedSize: "SHARED SIZE", UniqueSize: "UNIQUE SIZE",
	})
}

// tree prints images as docker's --tree does: their names, the images of each index below them, what they take, and who uses them.
func (c *imagesCmd) tree(s *session, h *forge.Home, o forge.ImagesOptions) error {
	list, err := h.ImageTree(s.ctx, o)
	if err != nil && list == nil {
		return err
	}
	used := func(yes bool) string {
		if yes {
			return "U"
		}
		return ""
	}
	w := tabwriter.NewWriter(s.out, 0, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tIN USE")
	for _, i := range list {
		names := i.Names
		if len(names) == 0 && !c.All && len(c.Filter) == 0 {
			continue
		}
		if len(names) == 0 {
			names = []string{"<untagged>"}
		}
		for _, name := range names[:len(names)-1] {
			_, _ = fmt.Fprintf(w, "%s\t\t\t\t\n", name)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", names[len(names)-1], shortID(i.ID.String()), size(i.Disk), size(i.Content), used(i.Used))
		for n, p := range i.Platforms {
			branch := "├─ "
			if n == len(i.Platforms)-1 {
				branch = "└─ "
			}
			_, _ = fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", branch, ui.Line(p.Platform), shortID(p.ID.String()), size(p.Disk), size(p.Content), used(p.Used))
		}
	}
	return errors.Join(w.Flush(), err)
}
