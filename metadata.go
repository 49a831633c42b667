package forge

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/platforms"

	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/parser"
)

// metadata is what --metadata-file holds besides the result, under buildx's names.
type metadata struct {
	build      string            // the build's ID
	provenance []json.RawMessage // one a platform; none if it is not wanted
	warnings   []parser.Warning  // if they are wanted
}

// metadataOf is what is known of a target whose images are made. Variables of buildx say how much of it is wanted:
// BUILDX_METADATA_PROVENANCE is min, which is the default, max or disabled; BUILDX_METADATA_WARNINGS is true or false.
func metadataOf(t *making) (m metadata, err error) {
	if t.MetadataFile == "" {
		return m, nil
	}
	mode := os.Getenv("BUILDX_METADATA_PROVENANCE")
	if on, err := strconv.ParseBool(mode); err == nil {
		mode = map[bool]string{true: "min", false: "disabled"}[on]
	}
	switch mode {
	case "", "min", "max":
		for i := range t.graphs {
			text, err := t.provenance(mode, i).Provenance()
			if err != nil {
				return m, err
			}
			m.provenance = append(m.provenance, text)
		}
	case "disabled":
	default:
		return m, fmt.Errorf("BUILDX_METADATA_PROVENANCE %q: must be min, max or disabled", mode)
	}
	if on, err := strconv.ParseBool(os.Getenv("BUILDX_METADATA_WARNINGS")); err == nil && on {
		m.warnings = []parser.Warning{}
		for _, g := range t.graphs {
			m.warnings = append(m.warnings, g.Warnings...)
		}
	}
	return m, nil
}

// writeMetadata writes what was made to the file that was asked for: of several targets, to one file under their names.
func (b *building) writeMetadata(ctx context.Context, results []*BuildResult) error {
	files, warnings := map[string]map[string]any{}, map[string][]solve.VertexWarning{}
	for i, t := range b.targets {
		path := t.MetadataFile
		if path == "" {
			continue
		}
		fields := results[i].metadata.fields(results[i])
		if !b.several() {
			files[path] = fields
			continue
		}
		if files[path] == nil {
			files[path] = map[string]any{}
		}
		if found, ok := fields[warningsField].([]solve.VertexWarning); ok {
			warnings[path] = append(warnings[path], found...)
			files[path][warningsField] = warnings[path]
			delete(fields, warningsField)
		}
		files[path][t.Name] = fields
	}
	for path, fields := range files {
		text, err := json.MarshalIndent(fields, "", "  ")
		if err == nil {
			err = durable.WriteOutput(ctx, path, append(text, '\n'))
		}
		if err != nil {
			return fmt.Errorf("--metadata-file: %w", err)
		}
	}
	return nil
}

const warningsField = "buildx.build.warnings"

// fields is the file.
func (m *metadata) fields(r *BuildResult) map[string]any {
	d := r.Shown()
	all := map[string]any{"containerimage.digest": d.Digest, "containerimage.descriptor": d, "buildx.build.ref": "default/default/" + m.build}
	if len(r.Images) == 1 {
		all["containerimage.config.digest"] = r.Images[0].ID()
	}
	if len(r.Tags) > 0 {
		all["image.name"] = r.TagNames()
	}
	for i, text := range m.provenance {
		key := "buildx.build.provenance"
		if len(m.provenance) > 1 {
			key += "/" + platforms.Format(r.Images[i].Config.Platform)
		}
		all[key] = text
	}
	if m.warnings != nil {
		all[warningsField] = vertexWarnings(m.warnings)
	}
	return all
}

// vertexWarnings are warnings as BuildKit's client writes them.
func vertexWarnings(found []parser.Warning) []solve.VertexWarning {
	all := []solve.VertexWarning{}
	for _, w := range found {
		all = append(all, solve.VertexWarning{
			Level: 1, Short: []byte(w.Rule + ": " + w.Detail), Detail: [][]byte{[]byte(w.Description)}, URL: w.URL,
			SourceInfo: &solve.SourceInfo{Filename: w.Span.File, Language: "Dockerfile"},
			Range:      []solve.LineRange{linesOf(w.Span)},
		})
	}
	return all
}

func linesOf(s parser.Span) solve.LineRange {
	return solve.LineRange{Start: solve.Position{Line: int32(s.Start)}, End: solve.Position{Line: int32(s.End)}}
}
