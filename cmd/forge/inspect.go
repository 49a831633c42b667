package main

import (
	"errors"
	"fmt"

	"github.com/forge-build/forge"
)

type inspectCmd struct {
	Names    []string `arg:"" help:"Containers, images, networks or volumes."`
	Format   string   `short:"f" help:"A Go template instead of JSON." placeholder:"TEMPLATE"`
	Platform string   `help:"Which image of an index." placeholder:"OS/ARCH"`
	Remote   bool     `help:"Ask the registry instead of the store."`
	SBOM     bool     `name:"sbom" xor:"about" help:"The list of the packages in an image that was attached to it, as SPDX."`
	Prove    bool     `name:"provenance" xor:"about" help:"Where an image came from, as was attached to it, as SLSA."`
	Insecure bool     `help:"With --remote, allow http, and TLS without verification."`
	Type     string   `help:"Only container, image, network or volume." enum:"container,image,network,volume," default:"" placeholder:"KIND"`
	Size     bool     `short:"s" help:"How much containers have written."`
}

func (c *inspectCmd) Run(s *session) error {
	if c.SBOM || c.Prove {
		return c.attestations(s)
	}
	if c.Remote {
		return c.remote(s)
	}
	return s.withHome(func(h *forge.Home) error {
		var list []any
		var errs []error
		for _, name := range c.Names {
			v, err := c.find(s, h, name)
			if err != nil {
				errs = append(errs, err)
				continue // the others are shown, as docker does
			}
			list = append(list, v)
		}
		return errors.Join(append(errs, c.print(s, list))...)
	})
}

// find finds what a name means: a container before an image, that before a network, and that before a volume.
func (c *inspectCmd) find(s *session, h *forge.Home, name string) (any, error) {
	switch c.Type {
	case "network":
		return h.InspectNetwork(name)
	case "volume":
		return h.Volume(name)
	case "", "container":
		v, err := h.InspectContainer(s.ctx, name)
		_, missing := errors.AsType[*forge.NoContainerError](err)
		switch {
		case err == nil && c.Size:
			return v, h.MeasureContainer(s.ctx, v)
		case err == nil:
			return v, nil
		case !missing || c.Type == "container":
			return nil, err
		}
	}
	i, err := h.InspectImage(s.ctx, name, c.Platform)
	if err == nil {
		return i, nil
	}
	if n, networkErr := h.InspectNetwork(name); networkErr == nil && c.Type == "" {
		return n, nil
	}
	if v, volumeErr := h.Volume(name); volumeErr == nil && c.Type == "" {
		return v, nil
	}
	if _, missing := errors.AsType[*forge.NotFoundError](err); missing && c.Type == "" {
		return nil, fmt.Errorf("no such object: %s", name)
	}
	return nil, err
}

// remote asks registries.
func (c *inspectCmd) remote(s *session) error {
	var list []any
	for _, name := range c.Names {
		i, err := forge.InspectRemote(s.ctx, name, c.Platform, forge.RemoteOptions{Insecure: c.Insecure})
		if err != nil {
			return err
		}
		v := i.Docker()
		list = append(list, &v)
	}
	return c.print(s, list)
}
