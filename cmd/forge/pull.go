package main

import (
	"fmt"

	"github.com/forge-build/forge"
)

type pullCmd struct {
	Name     string `arg:"" help:"Name of an image in a registry."`
	AllTags  bool   `short:"a" help:"Every tag of the repository."`
	Platform string `env:"DOCKER_DEFAULT_PLATFORM" help:"Which image of an index." placeholder:"OS/ARCH"`
	remoteFlags
	trustFlags
}

func (c *pullCmd) Run(s *session) error {
	if err := c.trustFlags.check(); err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		remote, done := c.options(s)
		pulled, err := h.Pull(s.ctx, c.Name, forge.PullOptions{RemoteOptions: remote, Platform: c.Platform, AllTags: c.AllTags})
		done()
		for _, p := range pulled {
			if c.Quiet {
				_, _ = fmt.Fprintln(s.out, p.Name)
				continue
			}
			state := "Image is up to date for "
			if p.Updated {
				state = "Downloaded newer image for "
			}
			_, _ = fmt.Fprintf(s.out, "Digest: %s\nStatus: %s%s\n%s\n", p.Source, state, p.Name.Familiar(), p.Name)
		}
		return err
	})
}
