package forge

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime/network"
)

// CommitOptions say what image to make of a container.
type CommitOptions struct {
	Name    string // "" makes an image without a name
	Author  string
	Message string   // for the history
	Changes []string // instructions that change only the configuration, such as CMD and ENV
	Running bool     // a container that runs goes on while what it has written is read
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
	err = h.withWritten(ctx, ref, how, func(w *writtenFiles) error {
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

// over puts what a container was created as over the configuration of its image, as docker does. What docker does not keep
// of a container, such as its mounts and its terminal, is left out, and so are the image's triggers.
func (c *containerConfig) over(i *image.Config) error {
	o, config := &c.ContainerOptions, &i.Config
	config.OnBuild = nil
	config.Env = c.mergedEnv(config.Env)
	config.Labels = c.Labels
	switch {
	case len(o.Entrypoint) == 1 && o.Entrypoint[0] == "":
		config.Entrypoint, config.Cmd = nil, o.Args
	case len(o.Entrypoint) > 0:
		config.Entrypoint, config.Cmd = o.Entrypoint, o.Args
	case len(o.Args) > 0:
		config.Cmd = o.Args
	}
	if o.User != "" {
		config.User = o.User
	}
	if o.Workdir != "" {
		config.WorkingDir = o.Workdir
	}
	if o.StopSignal != "" {
		config.StopSignal = o.StopSignal
	}
	_, config.Volumes = o.volumeFlags(config.Volumes)
	var err error
	if config.ExposedPorts, err = o.exposedBy(config.ExposedPorts); err != nil {
		return err
	}
	config.Healthcheck = c.healthConfig(config.Healthcheck)
	return nil
}

// exposedBy are the ports that an image exposes, and those that the options publish or expose.
func (o *PortOptions) exposedBy(below map[string]struct{}) (map[string]struct{}, error) {
	all := maps.Clone(below)
	for _, text := range slices.Concat(o.Publish, o.Expose) {
		ports, err := network.ParsePorts(text)
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			if all == nil {
				all = map[string]struct{}{}
			}
			all[fmt.Sprintf("%d/%s", p.Container, p.Protocol)] = struct{}{}
		}
	}
	return all, nil
}

// mergedEnv is the container's variables and, behind them, those of the image that it has not set.
func (c *containerConfig) mergedEnv(below []string) (env []string) {
	all := slices.Concat(c.Env, below)
	for i, v := range all {
		name, _, valued := strings.Cut(v, "=")
		others := all[:i] // who sets it says it once and for all, but the last of the container's counts
		if i < len(c.Env) {
			others = c.Env[i+1:]
		}
		taken := slices.ContainsFunc(others, func(o string) bool { return o == name || strings.HasPrefix(o, name+"=") })
		if valued && !taken {
			env = append(env, v)
		}
	}
	return env
}

// healthConfig is how the container is asked whether it is well, over what its image says.
func (c *containerConfig) healthConfig(below *image.Healthcheck) *image.Healthcheck {
	h := image.Healthcheck{}
	if below != nil {
		h = *below
	}
	o := c.HealthOptions
	switch {
	case o.NoHealthcheck:
		return &image.Healthcheck{Test: []string{"NONE"}}
	case o == HealthOptions{} && len(c.HealthTest) == 0:
		return below
	case o.HealthCmd != "":
		h.Test = []string{"CMD-SHELL", o.HealthCmd}
	case len(c.HealthTest) > 0:
		h.Test = c.HealthTest
	}
	h.Interval, h.Timeout = cmp.Or(o.HealthInterval, h.Interval), cmp.Or(o.HealthTimeout, h.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(o.HealthStartPeriod, h.StartPeriod), cmp.Or(o.HealthStartInterval, h.StartInterval)
	h.Retries = cmp.Or(o.HealthRetries, h.Retries)
	return &h
}
