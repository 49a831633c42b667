package main

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
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
	var out io.Writer = s.out
	if table {
		w := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
		defer w.Flush() //nolint:errcheck // as all that is printed
		out, rows = w, append([]R{headers}, rows...)
	}
	for _, r := range rows {
		if err := t.Execute(out, r); err != nil {
			return err
		}
	}
	return nil
}

func asJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
