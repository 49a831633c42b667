package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/registry/server"
)

type registryCmd struct {
	Serve serveCmd `cmd:"" help:"Serve a registry of one's own."`
}

type serveCmd struct {
	Addr     string `help:"Address to listen on." default:"127.0.0.1:5000" placeholder:"HOST:PORT"`
	Dir      string `name:"root" help:"Directory of its store; registry in the state directory if not given." placeholder:"DIR"`
	Htpasswd string `help:"File of user:bcrypt lines that may use it." placeholder:"FILE"`
	TLSCert  string `name:"tls-cert" help:"Certificate, PEM." placeholder:"FILE"`
	TLSKey   string `name:"tls-key" help:"Key of the certificate, PEM." placeholder:"FILE"`
	Quiet    bool   `short:"q" help:"Do not log requests."`
}

func (c *serveCmd) Run(s *session) (err error) {
	dir := c.Dir
	if dir == "" {
		state := s.options.Dir
		if state == "" {
			if state, err = forge.DefaultDir(); err != nil {
				return err
			}
		}
		dir = filepath.Join(state, "registry")
	}
	var mu sync.Mutex // of lines
	srv, err := server.New(server.Options{
		Root: dir, Htpasswd: c.Htpasswd, CertFile: c.TLSCert, KeyFile: c.TLSKey,
		Served: func(r server.Request) {
			if c.Quiet {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			_, _ = fmt.Fprintf(s.err, "%s %q %d %d bytes %s\n", r.Method, r.Path, r.Status, r.Bytes, r.Took)
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	l, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", c.Addr)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	_, _ = fmt.Fprintf(s.out, "listening on %s, store %s\n", l.Addr(), dir)
	if err := srv.Serve(s.ctx, l); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
