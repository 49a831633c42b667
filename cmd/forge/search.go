package main

import (
	"strconv"
	"strings"

	"github.com/forge-build/forge"
)

type searchCmd struct {
	Term     string   `arg:"" help:"What to look for; after the name of a registry and a slash, in that one."`
	Filter   []string `short:"f" sep:"none" help:"stars=N, is-official=true|false or is-automated=true|false." placeholder:"KEY=VALUE"`
	Format   string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
	Limit    int      `help:"How many at most, 1 to 100." default:"25" placeholder:"N"`
	NoTrunc  bool     `name:"no-trunc" help:"Whole descriptions."`
	Insecure bool     `help:"Allow http, and TLS without verification."`
}

// A searchRow is what a template of `forge search --format` sees, under docker's names.
type searchRow struct {
	Name, Description, StarCount, IsOfficial, IsAutomated string
}

func (c *searchCmd) Run(s *session) error {
	found, err := forge.Search(s.ctx, c.Term, forge.SearchOptions{
		RemoteOptions: forge.RemoteOptions{Insecure: c.Insecure}, Limit: c.Limit, Filters: c.Filter,
	})
	if err != nil {
		return err
	}
	rows := make([]searchRow, len(found))
	for i, f := range found {
		rows[i] = searchRow{f.Name, f.Description, strconv.Itoa(f.Stars), "", ""}
		rows[i].Description = strings.Join(strings.Fields(f.Description), " ") // of one line
		if text := []rune(rows[i].Description); !c.NoTrunc && len(text) > 45 {
			rows[i].Description = string(text[:44]) + "…"
		}
		if f.Official {
			rows[i].IsOfficial = "[OK]"
		}
		if f.Automated {
			rows[i].IsAutomated = "[OK]"
		}
	}
	return printRows(s, tableOr(c.Format, "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"), rows, searchRow{
		"NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED",
	})
}
