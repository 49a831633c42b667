package forge

import (
	"context"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
)

// CommitOptions say what image to make of a container.
type CommitOptions struct {
	Name    string // "" makes an image without a name
	Author  string
	Message string   // for the history
	Changes []string // instructions that change only the configuration, such as CMD and ENV
	Running bool     // a container that runs goes on while what it has written is read

	// Config is put over the configuration of the container, before Changes: what it says counts, and lists of variables, labels, ports and
	// volumes are added to those of the container. What images do not have, such as the name of the host, is left out. Nil is nothing.
	Config *inspect.Config

	Events event.Sink // takes notes of what is waited for; may be nil
}

// CommitContainer makes an image of a container: of the layers of its image and of what it has written, and of the
// configuration of both. What is in volumes and other mounts is not in it. The image is durable when it returns.
func (h *Home) CommitContainer(ctx context.Context, ref string, o CommitOptions) (img *image.Image, err error) {
	var tags []image.Reference
	if o.Name != "" {
		if tags, err = parseTags([]string{o.Name}); err != nil {
			return nil, err
		}
	}
	how := paused
	if o.Running {
		how = asItIs
	}
	err = h.withWritten(ctx, ref, how, o.Events, func(w *writtenFiles) error {
		if err := h.layersHere(ctx, w.record); err != nil { // the image would not be whole
			return err
		}
		config, err := w.config(ctx, o)
		if err != nil {
			return err
		}
		layers, err := w.commit(ctx)
		if err != nil {
			return err
		}
		if err := w.release(); err != nil {
			return err
		}
		config.History[len(config.History)-1].EmptyLayer = len(layers) == len(w.image.Layers())
		if img, err = h.Layout.Write(ctx, config, layers, nil); err != nil {
			return err
		}
		if err := h.tagAll(ctx, &BuildResult{Descriptor: img.Descriptor}, tags); err != nil {
			return err
		}
		id, name := string(img.ID()), ""
		h.imageEvent("create", id, id)
		for _, ref := range tags {
			name = ref.Familiar()
			h.imageEvent("tag", id, name)
		}
		h.containerEvent(w.record, "commit", "comment", o.Message, "imageID", id, "imageRef", name)
		return nil
	})
	return img, err
}

// config is the configuration of the image: the container's, over that of the image that it was made from, and the changes.
func (w *writtenFiles) config(ctx context.Context, o CommitOptions) (image.Config, error) {
	base := *w.image
	if err := w.record.Config.over(&base.Config); err != nil {
		return image.Config{}, err
	}
	if o.Config != nil {
		if err := configOver(o.Config, &base.Config); err != nil {
			return image.Config{}, err
		}
	}
	text := "FROM base\n" + strings.Join(o.Changes, "\n") + "\n"
	file, err := parser.Parse("--change", []byte(text), parser.Options{})
	if err != nil {
		return image.Config{}, err
	}
	for _, stage := range file.Stages {
		for _, i := range stage.Instructions {
			switch name := strings.ToLower(i.Name()); name {
			case "cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "stopsignal", "user", "volume", "workdir":
			default:
				return image.Config{}, words.Invalid("%s is not a valid change command", name)
			}
		}
	}
	g, err := planner.Plan(ctx, file, planner.Options{Platform: base.Config.Platform, BuildPlatform: thisPlatform(), Resolver: oneImage{&base}})
	if err != nil {
		return image.Config{}, err
	}
	config, now := base.Config, time.Now().UTC()
	config.Config, config.Created, config.Author = g.Config.Config, &now, o.Author
	if o.Config != nil { // not before: they are for those who build on the image
		config.Config.OnBuild = slices.Concat(o.Config.OnBuild, config.Config.OnBuild)
	}
	config.History = append(slices.Clone(config.History), ocispec.History{
		Created: &now, CreatedBy: strings.Join(base.Config.Config.Cmd, " "), Author: o.Author, Comment: o.Message,
	})
	return config, nil
}

// oneImage is a planner.Resolver that knows one image, by any name.
type oneImage struct{ image *image.Image }

// Resolve implements [planner.Resolver].
func (r oneImage) Resolve(context.Context, string, *ocispec.Platform) (*image.Image, error) {
	return r.image, nil
}
