package main

import (
	"fmt"

	"github.com/forge-build/forge"
)

type pushCmd struct {
	Name     string   `arg:"" help:"Name of an image of the store."`
	AllTags  bool     `short:"a" help:"Every tag of the repository."`
	Platform []string `help:"Which images of an index; all that the store has if not given." placeholder:"OS/ARCH"`
	compressionFlags
	remoteFlags
}

// compressionFlags are forge.CompressionOptions as flags.
type compressionFlags struct {
	Compression string `help:"Of layers: gzip, zstd, none or estargz." enum:"gzip,zstd,none,estargz" default:"gzip" placeholder:"HOW"`
	Level       int    `name:"compression-level" help:"0 is the algorithm's own." placeholder:"N"`
	Recompress  bool   `name:"force-compression" help:"Compress layers anew that have another form."`
}

func (c *pushCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		remote, done := c.options(s)
		pushed, err := h.Push(s.ctx, c.Name, forge.PushOptions{
			RemoteOptions: remote, AllTags: c.AllTags, CompressionOptions: forge.CompressionOptions(c.compressionFlags), Platforms: c.Platform,
		})
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
