package main

import (
	"fmt"

	"github.com/forge-build/forge"
)

type importCmd struct {
	File     string   `arg:"" help:"Tar of a root file system, plain or compressed, or the URL of one; - is standard input."`
	Name     string   `arg:"" optional:"" help:"Name of the image."`
	Change   []string `short:"c" sep:"none" help:"Instruction for the image's configuration, such as 'CMD [\"sh\"]'." placeholder:"INSTRUCTION"`
	Message  string   `short:"m" help:"Comment for the image's history." placeholder:"TEXT"`
	Platform string   `env:"DOCKER_DEFAULT_PLATFORM" help:"Platform of the image." placeholder:"OS/ARCH"`
	progressFlag
}

func (c *importCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		show := c.show(s)
		img, err := h.Import(s.ctx, forge.ImportOptions{
			File: c.File, Stdin: s.in, Name: c.Name, Changes: c.Change, Message: c.Message, Platform: c.Platform, Events: show.Event,
		})
		show.Close()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(s.out, img.ID())
		return nil
	})
}
