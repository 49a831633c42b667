package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/inspect"
)

// A createBody is docker's request for a container.
type createBody struct {
	inspect.Config
	HostConfig       inspect.HostConfig
	NetworkingConfig struct {
		EndpointsConfig map[string]*inspect.Endpoint
	}
}

// createContainer makes a container, and connects it to the networks that it has besides the first.
func createContainer(c *call) error {
	var b createBody
	if err := c.read(&b, bodyRequired); err != nil {
		return err
	}
	o, err := b.options()
	if err != nil {
		return invalid(err)
	}
	o.Name, o.Platform = c.query.Get("name"), c.query.Get("platform")
	further, err := b.networks(&o)
	if err != nil {
		return invalid(err)
	}
	if err := o.Verify(); err != nil {
		return invalid(err)
	}
	id, err := c.home.CreateContainer(c.ctx(), o, nil)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(further)) {
		if err := c.home.ConnectContainer(c.ctx(), name, id, further[name]); err != nil {
			undo := c.home.RemoveContainer(context.WithoutCancel(c.ctx()), id, forge.RemoveContainerOptions{Force: true, Volumes: true})
			return errors.Join(err, undo)
		}
	}
	if o.AutoRemove && !o.Detached { // docker run --rm
		c.server.ready.prepare(c.home, id)
	}
	return c.reply(http.StatusCreated, map[string]any{"Id": id, "Warnings": []string{}})
}

// options are what the body says, but for networks.
func (b *createBody) options() (o forge.ContainerOptions, err error) {
	if b.Image == "" {
		return o, errors.New("no image specified") // docker refuses an empty reference
	}
	h := &b.HostConfig
	if err := unsupported(h); err != nil {
		return o, err
	}
	o.Image, o.Pull = b.Image, forge.PullNever
	o.ProcessOptions = forge.ProcessOptions{Args: b.Cmd, Entrypoint: b.Entrypoint, Env: b.Env, Workdir: b.WorkingDir, User: b.User, TTY: b.Tty}
	if b.Entrypoint != nil && len(b.Entrypoint) == 0 {
		o.Entrypoint = []string{""}
	}
	o.LifeOptions = forge.LifeOptions{
		Interactive: b.OpenStdin, StdinOnce: b.StdinOnce, StopSignal: b.StopSignal, StopTimeout: b.StopTimeout, Labels: assignments(b.Labels),
		AutoRemove: h.AutoRemove, Restart: restartOf(h.RestartPolicy), Annotations: assignments(h.Annotations),
		LogDriver: h.LogConfig.Type, LogOpts: assignments(h.LogConfig.Config), ConsoleSize: h.ConsoleSize, Detached: !b.AttachStdout && !b.AttachStderr,
	}
	if b.AttachStdin || b.AttachStdout != b.AttachStderr {
		for name, attached := range map[string]bool{"stdin": b.AttachStdin, "stdout": b.AttachStdout, "stderr": b.AttachStderr} {
			if attached {
				o.Attach = append(o.Attach, name)
			}
		}
		slices.Sort(o.Attach)
	}
	o.Expose, o.PublishAll = slices.Sorted(maps.Keys(b.ExposedPorts)), h.PublishAllPorts
	if o.Publish, err = publish(h.PortBindings); err != nil {
		return o, err
	}
	if b.Healthcheck != nil {
		o.HealthTest, o.HealthOptions = b.Healthcheck.Test, forge.HealthOptionsOf(b.Healthcheck)
	}
	err = b.surroundings(&o)
	return o, err
}

// restartOf is a restart policy as command lines have it.
func restartOf(p inspect.Policy) string {
	if p.MaximumRetryCount != 0 {
		return fmt.Sprintf("%s:%d", p.Name, p.MaximumRetryCount)
	}
	return p.Name
}

// publish are the ports of this machine that are to lead to those of the container.
func publish(bindings map[string][]inspect.Binding) (list []string, err error) {
	for _, port := range slices.Sorted(maps.Keys(bindings)) {
		for _, b := range bindings[port] {
			text := port
			if b.HostPort != "" || b.HostIp != "" {
				text = b.HostPort + ":" + text
			}
			if b.HostIp != "" {
				ip := b.HostIp
				if strings.Contains(ip, ":") && !strings.HasPrefix(ip, "[") {
					ip = "[" + ip + "]"
				}
				text = ip + ":" + text
			}
			if strings.ContainsAny(b.HostPort+b.HostIp, " /") {
				return nil, fmt.Errorf("invalid port specification: %q", text)
			}
			list = append(list, text)
		}
		if len(bindings[port]) == 0 { // docker publishes it at any port
			list = append(list, port)
		}
	}
	return list, nil
}

// networks are those that the container is connected to: the first is put into the options, the others are returned.
func (b *createBody) networks(o *forge.ContainerOptions) (further map[string]forge.EndpointOptions, err error) {
	endpoints := b.NetworkingConfig.EndpointsConfig
	mode := cmp.Or(b.HostConfig.NetworkMode, "default")
	if b.NetworkDisabled {
		mode = "none"
	}
	names := slices.Sorted(maps.Keys(endpoints))
	same := func(name string) bool { return name == mode || isDefault(name) && isDefault(mode) }
	i := slices.IndexFunc(names, same)
	if i < 0 && len(names) > 0 && isDefault(mode) {
		i = 0 // docker takes what is configured for what is meant
		mode = names[0]
	}
	o.Network = mode
	further = map[string]forge.EndpointOptions{}
	for j, name := range names {
		e, err := endpointOptions(endpoints[name])
		switch {
		case err != nil:
			return nil, fmt.Errorf("network %s: %w", name, err)
		case j == i:
			o.EndpointOptions = e
		default:
			further[name] = e
		}
	}
	o.MACAddress = cmp.Or(o.MACAddress, b.MacAddress)
	for _, l := range b.HostConfig.Links { // docker's command line says those of a network twice
		if !slices.Contains(o.Links, l) {
			o.Links = append(slices.Clip(o.Links), l)
		}
	}
	return further, nil
}

func isDefault(mode string) bool { return mode == "default" || mode == "bridge" }

// endpointOptions are what a container is to be in a network; nil says nothing.
func endpointOptions(e *inspect.Endpoint) (o forge.EndpointOptions, err error) {
	if e == nil {
		return o, nil
	}
	if e.GwPriority != 0 {
		return o, errors.New("GwPriority is not there: the first network of a container has its gateway")
	}
	o = forge.EndpointOptions{NetworkAliases: e.Aliases, MACAddress: e.MacAddress, Links: e.Links, DriverOpts: assignments(e.DriverOpts)}
	if a := e.IPAMConfig; a != nil {
		o.IP, o.IP6 = a.IPv4Address, a.IPv6Address
		if len(a.LinkLocalIPs) > 0 {
			return o, errors.New("link-local addresses cannot be chosen")
		}
	}
	return o, nil
}
