package forge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/runtime/network"
)

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

// configOver puts a configuration as docker's API has it over that of an image, as docker does for a commit: what it says counts, and lists of
// names are added to. Of docker's fields those that no image has are left out, and so are the image's triggers.
func configOver(b *inspect.Config, i *image.Config) error {
	for _, v := range b.Env {
		if name, _, valued := strings.Cut(v, "="); !valued || name == "" {
			return words.Invalid("invalid environment variable: %s", v)
		}
	}
	c := containerConfig{Labels: maps.Clone(i.Config.Labels)}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, b.Labels)
	c.ProcessOptions = ProcessOptions{Args: b.Cmd, Entrypoint: b.Entrypoint, Env: b.Env, Workdir: b.WorkingDir, User: b.User}
	c.StopSignal, c.Expose = b.StopSignal, slices.Sorted(maps.Keys(b.ExposedPorts))
	if h := b.Healthcheck; h != nil {
		c.HealthTest, c.HealthOptions = h.Test, HealthOptionsOf(h)
	}
	if err := c.over(i); err != nil {
		return words.Invalid("%v", err)
	}
	config := &i.Config
	if len(b.Shell) > 0 {
		config.Shell = b.Shell
	}
	if b.Entrypoint != nil && len(b.Entrypoint) == 0 {
		config.Entrypoint = nil
	}
	if len(b.Volumes) > 0 {
		all := maps.Clone(b.Volumes)
		maps.Copy(all, config.Volumes)
		config.Volumes = all
	}
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
