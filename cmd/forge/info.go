package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/forge-build/forge"
)

type infoCmd struct {
	Format string `help:"text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`
}

func (c *infoCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		info, err := h.Info(s.ctx)
		if err != nil {
			return err
		}
		if c.Format == "json" {
			enc := json.NewEncoder(s.out)
			enc.SetIndent("", "  ")
			return enc.Encode(info)
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		for _, row := range info {
			_, _ = fmt.Fprintf(w, "%s:\t%s\t%s\n", row.Name, row.Value, row.Why)
		}
		return w.Flush()
	})
}
