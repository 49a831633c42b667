package main

import (
	"fmt"

	"github.com/forge-build/forge"
)

type portCmd struct {
	Container string `arg:"" help:"Container." placeholder:"CONTAINER"`
	Port      string `arg:"" optional:"" help:"Port in the container, instead of all." placeholder:"PORT[/PROTO]"`
}

func (c *portCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		lines, err := h.ContainerPorts(c.Container, c.Port)
		for _, l := range lines {
			_, _ = fmt.Fprintln(s.out, l)
		}
		return err
	})
}
