package main

import (
	"fmt"

	"github.com/forge-build/forge"
)

type copyCmd struct {
	Source      string   `arg:"" help:"NAME in a registry, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE or docker-daemon:NAME."`
	Destination string   `arg:"" help:"The same."`
	Platform    []string `help:"Which images of an index; all if not given." placeholder:"OS/ARCH"`
	remoteFlags
}

func (c *copyCmd) Run(s *session) error {
	remote, done := c.options(s)
	d, err := forge.Copy(s.ctx, c.Destination, c.Source, forge.CopyOptions{RemoteOptions: remote, Platforms: c.Platform})
	done()
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	_, _ = fmt.Fprintln(s.out, d.Digest)
	return nil
}
