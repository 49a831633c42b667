package main

import (
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/image"
)

type pushCmd struct {
	Name     string   `arg:"" help:"Name of an image that is here."`
	AllTags  bool     `short:"a" help:"Every tag of the repository."`
	Quiet    bool     `short:"q" help:"Print only digests."`
	Platform []string `help:"Which images of an index; all that are here if not given." placeholder:"OS/ARCH"`
	compressionFlags
	remoteFlags
}

func (c *pushCmd) Run(s *session) error {
	compression, err := c.parse()
	if err != nil {
		return &usageError{1, err}
	}
	platforms, err := parsePlatforms(c.Platform)
	if err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		remote, done := c.options(s, c.Quiet)
		o := forge.PushOptions{RemoteOptions: remote, Compression: compression, Recompress: c.ForceCompression, Platforms: platforms}
		var pushed []string
		note := func(ref image.Reference, d ocispec.Descriptor) {
			if c.Quiet {
				pushed = append(pushed, d.Digest.String())
			} else {
				pushed = append(pushed, fmt.Sprintf("%s: digest: %s size: %d", ref.Tag, d.Digest, d.Size))
			}
		}
		if c.AllTags {
			err = h.PushAll(s.ctx, c.Name, o, note)
		} else if ref, d, perr := h.Push(s.ctx, c.Name, o); perr != nil {
			err = perr
		} else {
			note(ref, d)
		}
		done()
		for _, line := range pushed {
			_, _ = fmt.Fprintln(s.out, line)
		}
		return err
	})
}
