package main

import (
	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// remoteFlags are those of every command that speaks to registries.
type remoteFlags struct {
	Quiet    bool   `short:"q" help:"Print only what was brought, sent or copied."`
	Insecure bool   `help:"Allow http, and TLS without verification."`
	Progress string `help:"How to show progress: auto, plain, tty, rawjson or quiet." enum:"auto,plain,tty,rawjson,quiet" default:"auto" placeholder:"HOW"`
}

// options returns what registries are asked with, and what to close when it is done.
func (f *remoteFlags) options(s *session) (forge.RemoteOptions, func()) {
	how := f.Progress
	if f.Quiet {
		how = "quiet"
	}
	show := ui.New(how, s.err)
	return forge.RemoteOptions{Insecure: f.Insecure, Events: show.Event}, func() { show.Close() }
}

// progressFlag is that of commands that copy images on this machine.
type progressFlag struct {
	Progress string `help:"How to show progress: auto (on a terminal only), plain, tty, rawjson or quiet." enum:"auto,plain,tty,rawjson,quiet" default:"auto" placeholder:"HOW"`
}

// show returns what shows events, to be closed when it is done.
func (f *progressFlag) show(s *session) ui.Display {
	how := f.Progress
	if how == "auto" {
		how = "terminal"
	}
	return ui.New(how, s.err)
}
