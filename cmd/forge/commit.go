package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type diffCmd struct {
	Container string `arg:"" help:"Container." placeholder:"CONTAINER"`
}

func (c *diffCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		list, err := h.ContainerDiff(s.ctx, c.Container)
		if err != nil {
			return err
		}
		for _, change := range list {
			if _, err := fmt.Fprintf(s.out, "%c %s\n", change.Kind, ui.Line(change.Path)); err != nil {
				return err
			}
		}
		return nil
	})
}

type commitCmd struct {
	Author  string   `short:"a" help:"Who has made the image." placeholder:"AUTHOR"`
	Change  []string `short:"c" sep:"none" help:"Instruction for the image's configuration, such as 'CMD [\"sh\"]'." placeholder:"INSTRUCTION"`
	Message string   `short:"m" help:"Comment for the image's history." placeholder:"TEXT"`
	Pause   bool     `short:"p" help:"Pause the container meanwhile." default:"true" negatable:""`

	Container string `arg:"" help:"Container." placeholder:"CONTAINER"`
	Name      string `arg:"" optional:"" help:"Name of the image." placeholder:"REPO[:TAG]"`
}

func (c *commitCmd) Run(s *session) error {
	show := ui.New("plain", s.err)
	defer show.Close()
	return s.withHome(func(h *forge.Home) error {
		img, err := h.CommitContainer(s.ctx, c.Container, forge.CommitOptions{
			Name: c.Name, Author: c.Author, Message: c.Message, Changes: c.Change, Running: !c.Pause, Events: show.Event,
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, img.ID())
		return err
	})
}

type exportCmd struct {
	Output    string `short:"o" help:"File, instead of standard output." placeholder:"FILE"`
	Container string `arg:"" help:"Container." placeholder:"CONTAINER"`
}

func (c *exportCmd) Run(s *session) error {
	if c.Output == "" && term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
	}
	show := ui.New("plain", s.err)
	defer show.Close()
	return s.withHome(func(h *forge.Home) error {
		return h.ExportContainer(s.ctx, c.Container, forge.ExportOptions{File: cmp.Or(c.Output, "-"), Stdout: s.out, Events: show.Event})
	})
}
