package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/durable"
)

type loadCmd struct {
	Input string `short:"i" help:"File, instead of standard input." placeholder:"FILE"`
	Quiet bool   `short:"q" help:"Do not name what was loaded."`
	progressFlag
}

func (c *loadCmd) Run(s *session) error {
	var in io.Reader = s.in
	if c.Input != "" && c.Input != "-" {
		f, err := durable.Input(s.ctx, c.Input)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // read only
		in = f
	} else if term.IsTerminal(int(s.in.Fd())) {
		return errors.New("load: will not read an archive from a terminal: use -i FILE, or redirect")
	}
	return s.withHome(func(h *forge.Home) error {
		show := c.show(s)
		loaded, err := h.Load(s.ctx, in, show.Event)
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
