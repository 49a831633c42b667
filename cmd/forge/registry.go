package main

import (
	"fmt"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/event"
)

type registryCmd struct {
	Serve serveCmd         `cmd:"" help:"Serve a registry of one's own."`
	Prune pruneRegistryCmd `cmd:"" help:"Remove what no manifest of a registry of one's own names. It must not be served meanwhile."`
}

type pruneRegistryCmd struct {
	Dir string `name:"root" help:"Directory of its store; registry in the state directory if not given." placeholder:"DIR"`
}

func (c *pruneRegistryCmd) Run(s *session) error {
	p, err := forge.PruneRegistry(s.ctx, forge.ServeOptions{Dir: c.Dir, Store: s.options.Dir})
	if err == nil || len(p.Blobs) > 0 {
		_, _ = fmt.Fprintf(s.out, "Deleted blobs: %d\nTotal reclaimed space: %s\n", len(p.Blobs), units.HumanSize(float64(p.Bytes)))
	}
	return err
}

type serveCmd struct {
	Addr     string `help:"Address to listen on." default:"127.0.0.1:5000" placeholder:"HOST:PORT"`
	Dir      string `name:"root" help:"Directory of its store; registry in the state directory if not given." placeholder:"DIR"`
	Htpasswd string `help:"File of user:bcrypt lines that may use it." placeholder:"FILE"`
	TLSCert  string `name:"tls-cert" help:"Certificate, PEM." placeholder:"FILE"`
	TLSKey   string `name:"tls-key" help:"Key of the certificate, PEM." placeholder:"FILE"`
	UI       bool   `name:"ui" help:"Show the registry to people as well, in a browser: /ui/."`
	Quiet    bool   `short:"q" help:"Do not log requests."`
}

func (c *serveCmd) Run(s *session) error {
	return forge.ServeRegistry(s.ctx, forge.ServeOptions{
		Addr: c.Addr, Dir: c.Dir, Store: s.options.Dir, Htpasswd: c.Htpasswd, CertFile: c.TLSCert, KeyFile: c.TLSKey, Pages: c.UI,
		Events: func(e event.Event) {
			switch {
			case e.Kind == event.Started:
				_, _ = fmt.Fprintln(s.out, e.Text)
			case e.Kind == event.Warning:
				_, _ = fmt.Fprintln(s.err, "forge: warning:", ui.Line(e.Text))
			case !c.Quiet:
				_, _ = fmt.Fprintln(s.err, e.Time.UTC().Format("2006-01-02T15:04:05.000Z"), ui.Line(e.Text))
			}
		},
	})
}
