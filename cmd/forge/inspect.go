package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

// An inspected is an image as docker's `inspect` shows it.
type inspected struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Created      *forge.Timestamp `json:",omitempty"`
	Author       string           `json:",omitempty"`
	Config       dockerspec.DockerOCIImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	RootFS       struct {
		Type   string
		Layers []digest.Digest
	}
	Descriptor ocispec.Descriptor
}

// Id is ID for templates, which docker lets use the names of the JSON.
func (v inspected) Id() string { return v.ID } //nolint:staticcheck // docker's name

func (c *inspectCmd) Run(s *session) error {
	if c.SBOM || c.Prove {
		return c.attestations(s)
	}
	if c.Remote {
		return c.remote(s)
	}
	return s.withHome(func(h *forge.Home) error {
		var list []object
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
func (c *inspectCmd) find(s *session, h *forge.Home, name string) (o object, err error) {
	switch c.Type {
	case "network":
		o.docker = dockerNetwork
		o.value, err = h.InspectNetwork(name)
		return o, err
	case "volume":
		o.value, err = h.Volume(name)
		return o, err
	case "", "container":
		v, err := h.InspectContainer(s.ctx, name)
		_, missing := errors.AsType[*forge.NoContainerError](err)
		switch {
		case err == nil:
			return object{v, dockerContainer}, nil
		case !missing || c.Type == "container":
			return o, err
		}
	}
	i, err := h.Inspect(s.ctx, name, c.Platform)
	if err == nil {
		return object{inspectedOf(i), dockerImage}, nil
	}
	if n, networkErr := h.InspectNetwork(name); networkErr == nil && c.Type == "" {
		return object{n, dockerNetwork}, nil
	}
	if v, volumeErr := h.Volume(name); volumeErr == nil && c.Type == "" {
		return object{v, ""}, nil
	}
	if _, missing := errors.AsType[*forge.NotFoundError](err); missing && c.Type == "" {
		return o, fmt.Errorf("no such object: %s", name)
	}
	return o, err
}

// remote asks registries.
func (c *inspectCmd) remote(s *session) error {
	var list []object
	for _, name := range c.Names {
		i, err := forge.InspectRemote(s.ctx, name, c.Platform, forge.RemoteOptions{Insecure: c.Insecure})
		if err != nil {
			return err
		}
		list = append(list, object{inspectedOf(i), dockerImage})
	}
	return c.print(s, list)
}

func inspectedOf(i forge.Inspection) inspected {
	img := i.Image
	v := inspected{
		ID: img.ID().String(), RepoTags: []string{}, RepoDigests: []string{}, Created: timestamp(img.Config.Created),
		Author: img.Config.Author, Config: img.Config.Config, Architecture: img.Config.Architecture,
		Variant: img.Config.Variant, Os: img.Config.OS, Descriptor: img.Descriptor,
	}
	v.RootFS.Type, v.RootFS.Layers = img.Config.RootFS.Type, img.Config.RootFS.DiffIDs
	v.Size = i.Size
	for _, ref := range i.Names {
		v.RepoTags = append(v.RepoTags, ref.Familiar())
	}
	for _, ref := range i.Remotes {
		if at := ref.Familiar(); !slices.Contains(v.RepoDigests, at) {
			v.RepoDigests = append(v.RepoDigests, at)
		}
	}
	return v
}

// timestamp is a time as inspect shows it; nil if there is none.
func timestamp(t *time.Time) *forge.Timestamp {
	if t == nil {
		return nil
	}
	return &forge.Timestamp{Time: *t}
}
