package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
)

type saveCmd struct {
	Images []string `arg:"" help:"Names, IDs or digests."`
	Output string   `short:"o" help:"File, instead of standard output." placeholder:"FILE"`
	Format string   `help:"oci-archive or docker-archive." enum:"oci-archive,oci,docker-archive,docker" default:"oci-archive" placeholder:"FORMAT"`

	Compression string `help:"Of layers: none, gzip or zstd; as they are if not given." enum:",none,gzip,zstd" default:"" placeholder:"HOW"`
	Level       int    `name:"compression-level" help:"0 is the algorithm's own." placeholder:"N"`
	Platform    string `help:"Which image of an index, for docker-archive." placeholder:"OS/ARCH"`
	progressFlag
}

func (c *saveCmd) Run(s *session) error {
	out := forge.Output{Dest: c.Output, Out: s.out}
	if c.Output == "" {
		out.Dest = "-"
	}
	if out.Dest == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("save: will not write an archive to a terminal: use -o FILE, or redirect")
	}
	o, err := c.options()
	if err != nil {
		return &usageError{1, err}
	}
	if out.Dest != "-" {
		if err := durable.CheckOutput(out.Dest); err != nil {
			return err
		}
	}
	return s.withHome(func(h *forge.Home) error {
		show := c.show(s)
		defer show.Close()
		o.Events = show.Event
		return out.Create(s.ctx, func(w io.Writer) error { return h.Save(s.ctx, w, c.Images, o) })
	})
}

func (c *saveCmd) options() (o image.SaveOptions, err error) {
	o.Format = image.OCIArchive
	if strings.HasPrefix(c.Format, "docker") {
		o.Format = image.DockerArchive
	}
	if c.Compression != "" {
		compression, err := image.ParseCompression(c.Compression, c.Level)
		if err != nil {
			return o, err
		}
		o.Compression = &compression
	}
	o.Platform, err = forge.ParsePlatform(c.Platform)
	return o, err
}
