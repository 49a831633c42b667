package main

import (
	"fmt"

	"github.com/forge-build/forge/registry"
)

type copyCmd struct {
	Source      string   `arg:"" help:"NAME in a registry, oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE."`
	Destination string   `arg:"" help:"The same."`
	Platform    []string `help:"Which images of an index; all if not given." placeholder:"OS/ARCH"`
	Quiet       bool     `short:"q" help:"Print only the digest."`
	remoteFlags
}

func (c *copyCmd) Run(s *session) error {
	src, err := registry.ParseEndpoint(c.Source)
	if err != nil {
		return &usageError{1, err}
	}
	dst, err := registry.ParseEndpoint(c.Destination)
	if err != nil {
		return &usageError{1, err}
	}
	platforms, err := parsePlatforms(c.Platform)
	if err != nil {
		return err
	}
	remote, done := c.options(s, c.Quiet)
	client := registry.NewClient(registry.Options{Insecure: remote.Insecure, Events: remote.Events})
	d, err := registry.Transfer(s.ctx, client, dst, src, registry.CopyOptions{Platforms: platforms, Events: remote.Events})
	done()
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	_, _ = fmt.Fprintln(s.out, d.Digest)
	return nil
}
