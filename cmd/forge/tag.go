package main

import "github.com/forge-build/forge"

type tagCmd struct {
	Source string `arg:"" help:"Name, ID or digest of an image."`
	Target string `arg:"" help:"Its new name."`
}

func (c *tagCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error { return h.Tag(s.ctx, c.Source, c.Target) })
}
