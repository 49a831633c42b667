package forge

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// An outputStep is what a build does with its result, as a step of the build: there is one for each output, and one for each name
// that is pushed.
type outputStep struct {
	*event.Step
	out  Output
	tags []image.Reference
}

// outputSteps are the steps that follow those of the graph, of which there are so many.
func (o *BuildOptions) outputSteps(tags []image.Reference, before int) ([]outputStep, error) {
	outputs := o.Outputs
	if len(outputs) == 0 {
		outputs = []Output{{Type: "image"}}
	}
	var steps []outputStep
	add := func(kind event.StepKind, name string, out Output, tags ...image.Reference) {
		steps = append(steps, outputStep{&event.Step{Number: before + len(steps) + 1, Kind: kind, Name: name}, out, tags})
	}
	for _, out := range outputs {
		tags := tags
		if names := out.Attrs["name"]; names != "" {
			var err error
			if tags, err = parseTags(strings.Split(names, ",")); err != nil {
				return nil, fmt.Errorf("output %s: %w", out.Type, err)
			}
		}
		switch {
		case out.Type == "cacheonly":
			continue
		case out.file():
			what := "archive"
			if out.directory() {
				what = "layout"
			}
			add(event.Export, fmt.Sprintf("export %s %s %s", out.Type, what, out.destName()), out, tags...)
			continue
		case out.Type == "tar":
			add(event.Export, "export tar "+out.destName(), out)
			continue
		case out.Type == "local":
			add(event.Export, strings.TrimSuffix("export files to "+out.Dest, " to "), out)
			continue
		}
		if pushes := out.Type == "registry" || out.Attrs["push"] == "true"; pushes && len(tags) == 0 {
			return nil, fmt.Errorf("output %s: needs a name to push to: -t NAME, or name=NAME", out.Type)
		} else if pushes {
			for _, ref := range tags {
				add(event.Push, "push "+ref.Familiar(), out, ref)
			}
		}
		if out.Type != "registry" { // after the push: layers that are not here may be there alone
			add(event.Export, strings.TrimSpace("export image "+familiarNames(tags)), out, tags...)
		}
	}
	return steps, nil
}

// pushedOnly reports whether the image is for registries and for nothing else: layers that another machine has left there need not come
// here. The image is listed here all the same; who runs it pulls it.
func (o *BuildOptions) pushedOnly() bool {
	for _, out := range o.Outputs {
		switch {
		case out.Type == "registry", out.Type == "cacheonly", out.Type == "image" && out.Attrs["push"] == "true":
		default:
			return false
		}
	}
	return len(o.Outputs) > 0
}

// file reports whether an output is the image itself in an archive, or a directory.
func (o *Output) file() bool {
	return o.Type == "oci" || o.Type == "docker" && (o.Dest != "" || o.Layout != nil)
}

// directory reports whether the image is written to a directory, an OCI layout, instead of an archive.
func (o *Output) directory() bool { return o.Attrs["tar"] == "false" }

// destName names the file that an output goes to.
func (o *Output) destName() string {
	switch {
	case o.Layout != nil:
		return "to the client"
	case o.Dest == "-":
		return "to standard output"
	}
	return filepath.Base(o.Dest)
}

func familiarNames(refs []image.Reference) string {
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = ref.Familiar()
	}
	return strings.Join(names, ", ")
}

// output does with the results of a target what was asked for. Names come last.
func (h *Home) output(ctx context.Context, t *making, r *BuildResult) error {
	o := t.BuildOptions
	o.Annotations = maps.Clone(o.Annotations)
	for _, s := range t.outputs {
		for key, value := range s.out.annotations {
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			o.Annotations[key] = value
		}
	}
	if err := h.write(ctx, o, r, t.results); err != nil {
		return err
	}
	if err := h.attest(ctx, t, r); err != nil {
		return err
	}
	for _, s := range t.outputs {
		if err := h.outputOne(ctx, o, s, r); err != nil {
			return fmt.Errorf("output %s: %w", s.out.Type, err)
		}
	}
	return nil
}

// outputOne does a step, and reports it.
func (h *Home) outputOne(ctx context.Context, o BuildOptions, s outputStep, r *BuildResult) error {
	all := o.Events
	o.Events = func(e event.Event) {
		e.Step = s.Step
		all.Send(e)
	}
	if all == nil {
		o.Events = nil
	}
	o.Events.Send(event.Event{Kind: event.Started})
	start := time.Now()
	err := h.outputTo(ctx, o, s, r)
	took := time.Since(start)
	switch {
	case err == nil:
		o.Events.Send(event.Event{Kind: event.Done, Duration: took})
	case ctx.Err() != nil:
		o.Events.Send(event.Event{Kind: event.Canceled, Duration: took})
	default:
		o.Events.Send(event.Event{Kind: event.Failed, Duration: took, Error: err.Error()})
	}
	return err
}

func (h *Home) outputTo(ctx context.Context, o BuildOptions, s outputStep, r *BuildResult) error {
	switch {
	case s.Kind == event.Push:
		return h.outputRegistry(ctx, o, s.out, s.tags[0], r)
	case s.out.file():
		return h.outputArchive(ctx, s.out, s.tags, r, o.Events)
	case s.out.Type == "image" || s.out.Type == "docker":
		return h.tagAll(ctx, r, s.tags)
	default:
		return h.outputFiles(ctx, o, s.out, r)
	}
}
