package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/forge-build/forge"
)

type infoCmd struct {
	Format string `short:"f" help:"A Go template of docker's fields, or json." placeholder:"TEMPLATE"`
}

func (c *infoCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		rows, err := h.Info(s.ctx)
		if err != nil {
			return err
		}
		rows = append([]forge.InfoRow{{Name: "version", Value: versionText(), Why: versionLine()}}, rows...)
		if s.confined != nil {
			for i := range rows {
				if rows[i].Name == "rootless" {
					rows[i].Why += ": " + s.confined.Error()
				}
			}
		}
		if c.Format != "" && c.Format != "text" {
			return c.print(s, h, rows)
		}
		w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
		for _, row := range rows {
			_, _ = fmt.Fprintf(w, "%s:\t%s\n", row.Name, strings.TrimSpace(row.Value+"  "+row.Why))
		}
		return w.Flush()
	})
}

// print prints docker's fields, and the rows under their names, as JSON or by a template.
func (c *infoCmd) print(s *session, h *forge.Home, rows []forge.InfoRow) error {
	fields, err := h.DockerInfo(s.ctx)
	if err != nil {
		return err
	}
	client := forge.EngineVersion(versionText())
	client.KernelVersion, client.Components, client.Platform, client.Context = "", nil, nil, theContext
	fields["ServerVersion"], fields["ClientInfo"] = versionText(), client
	for _, row := range rows {
		fields[row.Name] = map[string]string{"value": row.Value, "why": row.Why}
	}
	if c.Format == "json" || c.Format == "{{json .}}" {
		return json.NewEncoder(jsonWriter{s.out}).Encode(fields)
	}
	t, err := parseTemplate(c.Format)
	if err != nil {
		return err
	}
	return t.Option("missingkey=error").Execute(s.out, fields)
}
