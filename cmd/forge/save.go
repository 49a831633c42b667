package main

import (
	"cmp"
	"errors"
	"os"

	"golang.org/x/term"

	"github.com/forge-build/forge"
)

type saveCmd struct {
	Images []string `arg:"" help:"Names, IDs or digests."`
	Output string   `short:"o" help:"File, instead of standard output." placeholder:"FILE"`
	Format string   `help:"oci-archive or docker-archive." enum:"oci-archive,oci,docker-archive,docker" default:"oci-archive" placeholder:"FORMAT"`

	Compression string `help:"Of layers: none, gzip or zstd; as they are if not given." enum:",none,gzip,zstd" default:"" placeholder:"HOW"`
	Level       int    `name:"compression-level" help:"0 is the algorithm's own." placeholder:"N"`
	Platform    string `help:"Only the image for this platform." placeholder:"OS/ARCH"`
	progressFlag
}

func (c *saveCmd) Run(s *session) error {
	c.Output = cmp.Or(c.Output, "-")
	if c.Output == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("save: will not write an archive to a terminal: use -o FILE, or redirect")
	}
	return s.withHome(func(h *forge.Home) error {
		show := c.show(s)
		defer show.Close()
		return h.Save(s.ctx, c.Images, forge.SaveOptions{
			File: c.Output, Stdout: s.out, Format: c.Format, Platform: c.Platform, Compression: c.Compression, Level: c.Level,
			Events: show.Event,
		})
	})
}
