package main

import (
	"errors"
	"fmt"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type rmiCmd struct {
	Images   []string `arg:"" help:"Names, IDs or digests."`
	Force    bool     `short:"f" help:"All names of an image, if given by ID; no error for what is not there."`
	Platform []string `help:"Only the images for these platforms." placeholder:"OS/ARCH"`
	NoPrune  bool     `name:"no-prune" help:"Keep parents without a name. forge never removes them: this is for scripts."`
}

func (c *rmiCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		var errs []error
		for _, name := range c.Images {
			removals, err := h.RemoveImage(s.ctx, name, forge.RemoveOptions{Force: c.Force, Platforms: c.Platform})
			for _, r := range removals {
				if r.Deleted != "" {
					_, _ = fmt.Fprintln(s.out, "Deleted:", r.Deleted)
				} else {
					_, _ = fmt.Fprintln(s.out, "Untagged:", r.Untagged)
				}
			}
			if _, missing := errors.AsType[*forge.NotFoundError](err); missing && c.Force {
				_, _ = fmt.Fprintln(s.err, "forge: "+ui.Lines(err.Error()))
				continue
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}
