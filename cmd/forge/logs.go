package main

import (
	"fmt"

	"github.com/forge-build/forge"
)

type logsCmd struct {
	Follow     bool   `short:"f" help:"Go on with what is written later, until the container ends."`
	Tail       string `short:"n" help:"Number of lines to show from the end, or all." default:"all" placeholder:"N"`
	Since      string `help:"Show what is not older: a time, or a duration as 10m." placeholder:"TIME"`
	Until      string `help:"Show what is not newer." placeholder:"TIME"`
	Timestamps bool   `short:"t" help:"Show the time of each line."`
	Details    bool   `help:"Show the attributes of each line."`
	Container  string `arg:"" help:"Container." placeholder:"CONTAINER"`
}

func (c *logsCmd) Run(s *session) error {
	o, err := forge.ParseLogOptions(c.Tail, c.Since, c.Until)
	if err != nil {
		return err
	}
	o.Notice = func(text string) { _, _ = fmt.Fprintln(s.err, "forge: "+text) }
	o.Follow, o.Timestamps, o.Details = c.Follow, c.Timestamps, c.Details
	return s.withHome(func(h *forge.Home) error { return h.ContainerLogs(s.ctx, c.Container, o, s.out, s.err) })
}
