package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type cpCmd struct {
	Archive    bool  `short:"a" help:"Keep owners; on this machine, devices and set-id bits, too."`
	FollowLink bool  `short:"L" help:"Copy what SRC is a link to."`
	Quiet      *bool `short:"q" help:"Do not say how much was copied; so it is if standard output is no terminal."`

	Src string `arg:"" help:"File or directory, CONTAINER:PATH, or - for a tar." placeholder:"SRC"`
	Dst string `arg:"" help:"The same." placeholder:"DST"`
}

// Help is shown below the usage.
func (c *cpCmd) Help() string {
	return "A directory SRC whose path ends in /. is not copied itself, only what is in it."
}

func (c *cpCmd) Run(s *session) error {
	from, src := splitContainerPath(c.Src)
	to, dst := splitContainerPath(c.Dst)
	switch {
	case c.Src == "":
		return errors.New("source can not be empty")
	case c.Dst == "":
		return errors.New("destination can not be empty")
	case from != "" && to != "":
		return errors.New("copying between containers is not supported")
	case from == "" && to == "":
		return errors.New("must specify at least one container source")
	case to != "" && dst == "":
		return errors.New("no such directory")
	}
	show := ui.New("plain", s.err)
	defer show.Close()
	o := forge.FileCopyOptions{Owners: c.Archive, Follow: c.FollowLink, Events: show.Event}
	return s.withHome(func(h *forge.Home) (err error) {
		var size int64
		done := c.Dst
		switch {
		case from != "" && dst == "-":
			return h.CopyTarFrom(s.ctx, from, src, s.out, o, nil)
		case from != "":
			if done, err = filepath.Abs(dst); err != nil {
				return err
			}
			size, err = h.CopyFrom(s.ctx, from, src, dst, o)
		case src == "-":
			size, err = h.CopyTarTo(s.ctx, s.in, to, dst, forge.FileCopyOptions{Events: show.Event})
			if _, missing := errors.AsType[*forge.NoFileError](err); missing {
				err = fmt.Errorf("destination %q must be a directory", c.Dst)
			}
		default:
			size, err = h.CopyTo(s.ctx, src, to, dst, o)
		}
		if err != nil || c.quiet() {
			return err
		}
		_, err = fmt.Fprintln(s.err, "Successfully copied", units.HumanSizeWithPrecision(float64(size), 3), "to", done)
		return err
	})
}

func (c *cpCmd) quiet() bool {
	if c.Quiet != nil {
		return *c.Quiet
	}
	return !term.IsTerminal(int(os.Stdout.Fd()))
}

// splitContainerPath splits CONTAINER:PATH. What begins with "/" or "." is a path of this machine, whatever is in it.
func splitContainerPath(arg string) (container, path string) {
	container, path, ok := strings.Cut(arg, ":")
	if !ok || filepath.IsAbs(arg) || strings.HasPrefix(container, ".") {
		return "", arg
	}
	return container, path
}
