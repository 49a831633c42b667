package forge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/source"
)

// A ContextListing is what a build sees of its context, and what hides the rest.
type ContextListing struct {
	Seen       []ListedFile `json:"seen"`
	Hidden     []ListedFile `json:"hidden"`
	IgnoreFile string       `json:"ignoreFile,omitempty"`
}

// A ListedFile is a file of a context, or a directory, whose path ends with a slash.
type ListedFile struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`           // bytes
	Line    int    `json:"line,omitempty"` // of the ignore file, that hides it
	Pattern string `json:"pattern,omitempty"`
}

// ListContext lists what a build would see of its main context (--call context). It builds nothing.
func (h *Home) ListContext(ctx context.Context, o BuildOptions) (l *ContextListing, err error) {
	l = &ContextListing{Seen: []ListedFile{}, Hidden: []ListedFile{}}
	err = h.withSources(ctx, o, func(src *sources) error {
		found, err := src.List(ctx)
		l.IgnoreFile = found.IgnoreFile
		for _, f := range found.Seen {
			l.Seen = append(l.Seen, listedFile(f))
		}
		for _, f := range found.Hidden {
			l.Hidden = append(l.Hidden, listedFile(f))
		}
		return err
	})
	return l, err
}

func listedFile(f source.Listed) ListedFile { return ListedFile(f) }

// Text writes a line for each file, and for what is hidden, and by what.
func (l *ContextListing) Text(w io.Writer) error {
	var total int64
	t := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	for _, f := range l.Seen {
		total += f.Size
		_, _ = fmt.Fprintf(t, "%q\t%s\n", f.Path, units.HumanSize(float64(f.Size)))
	}
	if len(l.Hidden) > 0 {
		_, _ = fmt.Fprintf(t, "\nHidden:\n")
	}
	for _, f := range l.Hidden {
		_, _ = fmt.Fprintf(t, "%q\t%s:%d\t%s\n", f.Path, l.IgnoreFile, f.Line, f.Pattern)
	}
	_, _ = fmt.Fprintf(t, "\n%d files and directories, %s; hidden: %d\n", len(l.Seen), units.HumanSize(float64(total)), len(l.Hidden))
	return t.Flush()
}

// JSON writes the same for programs.
func (l *ContextListing) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(l)
}
