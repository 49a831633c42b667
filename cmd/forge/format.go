package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/forge-build/forge/cmd/forge/ui"
)

// parseTemplate reads a --format, which may use docker's functions and write tabs and line ends as \t and \n.
func parseTemplate(format string) (*template.Template, error) {
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	return template.New("format").Funcs(template.FuncMap{
		"json": asJSON, "join": strings.Join, "split": strings.Split, "lower": strings.ToLower, "upper": strings.ToUpper,
		"truncate": func(s string, n int) string {
			r := []rune(s)
			return string(r[:min(max(n, 0), len(r))])
		},
	}).Parse(format + "\n")
}

// tableOr is the format that was asked for; without one, or for docker's word table, the command's own.
func tableOr(format, table string) string {
	if format == "" || format == "table" {
		return table
	}
	return format
}

// printRows prints each row by a Go template, after "table " as a table under headers, or, with "json", as a line of JSON.
func printRows[R any](s *session, format string, rows []R, headers R) error {
	if format == "json" || format == "{{json .}}" {
		enc := json.NewEncoder(s.out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	format, table := strings.CutPrefix(format, "table ")
	t, err := parseTemplate(strings.TrimLeft(format, " "))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if table {
		rows = append([]R{headers}, rows...)
	}
	for _, r := range rows {
		if err := t.Execute(&text, r); err != nil {
			return err
		}
	}
	if !table {
		_, err := text.WriteTo(s.out)
		return err
	}
	w := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	_, _ = io.WriteString(w, ui.Lines(text.String()))
	return w.Flush()
}

func asJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
