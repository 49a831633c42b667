package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/template"
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
	Created      *time.Time `json:",omitempty"`
	Author       string     `json:",omitempty"`
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
		list := []any{}
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
		case err == nil:
			return v, nil
		case !missing || c.Type == "container":
			return nil, err
		}
	}
	i, err := h.Inspect(s.ctx, name, c.Platform)
	if err == nil {
		return inspectedOf(i), nil
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
	list := []any{}
	for _, name := range c.Names {
		i, err := forge.InspectRemote(s.ctx, name, c.Platform, forge.RemoteOptions{Insecure: c.Insecure})
		if err != nil {
			return err
		}
		list = append(list, inspectedOf(i))
	}
	return c.print(s, list)
}

func inspectedOf(i forge.Inspection) inspected {
	img := i.Image
	v := inspected{
		ID: img.ID().String(), RepoTags: []string{}, RepoDigests: []string{}, Created: img.Config.Created,
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

func (c *inspectCmd) print(s *session, list []any) error {
	if c.Format == "" || c.Format == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "    ")
		return enc.Encode(list)
	}
	t, err := parseTemplate(c.Format)
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := executeInspect(s.out, t, v); err != nil {
			return err
		}
	}
	return nil
}

// executeInspect lets a template use the names of fields, and, as docker does, else those of the JSON.
func executeInspect(w io.Writer, t *template.Template, v any) error {
	var b bytes.Buffer
	err := t.Execute(&b, v)
	if err != nil {
		raw, jsonErr := json.Marshal(v)
		if jsonErr != nil {
			return jsonErr
		}
		var fields map[string]any
		if jsonErr := json.Unmarshal(raw, &fields); jsonErr != nil {
			return jsonErr
		}
		b.Reset()
		if t.Option("missingkey=error").Execute(&b, fields) != nil {
			return err
		}
	}
	_, err = b.WriteTo(w)
	return err
}
