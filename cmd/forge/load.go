package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge"
)

type loadCmd struct {
	Input string `short:"i" help:"File, instead of standard input." placeholder:"FILE"`
	Quiet bool   `short:"q" help:"Do not name what was loaded."`

	Platform string `help:"Only the image for this platform." placeholder:"OS/ARCH"`
	progressFlag
}

func (c *loadCmd) Run(s *session) error {
	c.Input = cmp.Or(c.Input, "-")
	if c.Input == "-" && term.IsTerminal(int(s.in.Fd())) {
		return errors.New("load: will not read an archive from a terminal: use -i FILE, or redirect")
	}
	return s.withHome(func(h *forge.Home) error {
		show := c.show(s)
		loaded, err := h.Load(s.ctx, forge.LoadOptions{File: c.Input, Stdin: s.in, Platform: c.Platform, Events: show.Event})
		show.Close()
		for _, n := range loaded {
			switch {
			case c.Quiet:
			case strings.HasPrefix(n, "sha256:"):
				_, _ = fmt.Fprintln(s.out, "Loaded image ID:", n)
			default:
				_, _ = fmt.Fprintln(s.out, "Loaded image:", n)
			}
		}
		return err
	})
}
