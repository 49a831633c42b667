package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// parseTemplate reads a --format, which may use docker's functions and write tabs and line ends as \t and \n.
func parseTemplate(format string) (*template.Template, error) {
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	return template.New("format").Funcs(forge.TemplateFunctions()).Parse(format + "\n")
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
		return printJSON(s, rows)
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
	w := tabwriter.NewWriter(s.out, 10, 1, 3, ' ', 0) // docker's widths
	_, _ = io.WriteString(w, ui.Lines(text.String()))
	return w.Flush()
}

// A jsonWriter writes JSON, a whole value at a time, without the control characters that JSON may hold as they are, U+0080 to U+009F: some
// terminals take them for sequences.
type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(text []byte) (int, error) {
	shown := text
	if bytes.IndexByte(text, 0xc2) < 0 { // which all of them begin with
		_, err := j.w.Write(text)
		return len(text), err
	}
	for c := byte(0x80); c < 0xa0; c++ {
		shown = bytes.ReplaceAll(shown, []byte{0xc2, c}, fmt.Appendf(nil, "\\u%04x", c))
	}
	_, err := j.w.Write(shown)
	return len(text), err
}

// printJSON prints each row as a line of JSON, its fields in the order of their names, as docker does.
func printJSON[R any](s *session, rows []R) error {
	enc := json.NewEncoder(jsonWriter{s.out})
	for _, r := range rows {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(b, &fields); err != nil {
			return err
		}
		if err := enc.Encode(fields); err != nil {
			return err
		}
	}
	return nil
}
