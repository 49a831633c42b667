package main

import (
	"fmt"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/image"
)

type pushCmd struct {
	Name     string   `arg:"" help:"Name of an image that is here."`
	AllTags  bool     `short:"a" help:"Every tag of the repository."`
	Platform []string `help:"Which images of an index; all that are here if not given." placeholder:"OS/ARCH"`
	compressionFlags
	remoteFlags
}

func (c *pushCmd) Run(s *session) error {
	compression, err := c.parse()
	if err != nil {
		return &usageError{1, err}
	}
	platforms, err := forge.ParsePlatforms(c.Platform)
	if err != nil {
		return &usageError{1, err}
	}
	return s.withHome(func(h *forge.Home) error {
		remote, done := c.options(s)
		o := forge.PushOptions{RemoteOptions: remote, Compression: compression, Recompress: c.ForceCompression, Platforms: platforms}
		var pushed []image.Named
		if c.AllTags {
			pushed, err = h.PushAll(s.ctx, c.Name, o)
		} else if ref, d, perr := h.Push(s.ctx, c.Name, o); perr != nil {
			err = perr
		} else {
			pushed = []image.Named{{Reference: ref, Descriptor: d}}
		}
		done()
		for _, p := range pushed {
			if c.Quiet {
				_, _ = fmt.Fprintln(s.out, p.Descriptor.Digest)
			} else {
				_, _ = fmt.Fprintf(s.out, "%s: digest: %s size: %d\n", p.Reference.Tag, p.Descriptor.Digest, p.Descriptor.Size)
			}
		}
		return err
	})
}
