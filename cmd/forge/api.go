package main

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/api"
)

type apiCmd struct {
	Serve   apiServeCmd   `cmd:"" default:"withargs" help:"Serve Docker's Engine API. Whoever may use it is root of this machine, or the user whose store it is."`
	Unit    apiUnitCmd    `cmd:"" help:"Print units for systemd that start the API when somebody asks for it."`
	Context apiContextCmd `cmd:"" help:"Make a context of docker that leads to the API."`
}

// socketFlag says where the socket is.
type socketFlag struct {
	Socket string `help:"Socket to listen on; /run/forge/docker.sock, or forge/docker.sock in $$XDG_RUNTIME_DIR, if not given." placeholder:"PATH"`
}

func (f socketFlag) path() (string, error) {
	if f.Socket != "" {
		return filepath.Abs(f.Socket)
	}
	return api.DefaultSocket(forge.Rootless())
}

type apiServeCmd struct {
	socketFlag
	Group   string         `help:"Group that may use the socket, by name or number. Its members are root of this machine thereby." placeholder:"GROUP"`
	Idle    *time.Duration `help:"End when nothing was asked for so long; 0 is never. 5m if systemd has opened the socket, else never." placeholder:"TIME"`
	Addr    string         `name:"tcp" help:"Listen at an address, too, for clients with certificates." placeholder:"HOST:PORT"`
	TLSCA   string         `name:"tls-ca" help:"Certificates of the authorities that sign those of clients, PEM." placeholder:"FILE"`
	TLSCert string         `name:"tls-cert" help:"Certificate, PEM." placeholder:"FILE"`
	TLSKey  string         `name:"tls-key" help:"Key of the certificate, PEM." placeholder:"FILE"`
	Hosts   []string       `name:"host" help:"Name of this machine that clients use with --tcp." placeholder:"NAME"`
}

// idleTime is how long a server waits that systemd starts anew when it is asked for.
const idleTime = 5 * time.Minute

// Run serves until it is interrupted, or idle.
func (c *apiServeCmd) Run(s *session) (err error) {
	if err := s.withHome(func(*forge.Home) error { return nil }); err != nil { // a store that cannot be opened is told here
		return err
	}
	idle := time.Duration(0)
	listeners, err := api.Inherited()
	if err != nil {
		return err
	}
	if len(listeners) > 0 {
		idle = idleTime
	} else {
		l, path, err := c.listen(s)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		if _, err := fmt.Fprintf(s.out, "export DOCKER_HOST=unix://%s\n", path); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	if c.Addr != "" {
		l, err := api.ListenTLS(s.ctx, c.Addr, api.TLSOptions{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey})
		if err != nil {
			return errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, l)
		if _, err := fmt.Fprintf(s.out, "export DOCKER_HOST=tcp://%s DOCKER_TLS_VERIFY=1\n", l.Addr()); err != nil {
			return errors.Join(err, closeAll(listeners))
		}
	}
	if c.Idle != nil {
		idle = *c.Idle
	}
	server := api.New(api.Options{Store: s.options, Version: versionText(), Hosts: c.Hosts})
	return server.Serve(s.ctx, idle, listeners...)
}

// listen makes the socket.
func (c *apiServeCmd) listen(s *session) (net.Listener, string, error) {
	path, err := c.path()
	if err != nil {
		return nil, "", err
	}
	gid := -1
	if c.Group != "" {
		if gid, err = strconv.Atoi(c.Group); err != nil {
			g, err := user.LookupGroup(c.Group)
			if err != nil {
				return nil, "", err
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return nil, "", err
			}
		}
	}
	l, err := api.ListenUnix(s.ctx, path, gid)
	return l, path, err
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

type apiUnitCmd struct{ socketFlag }

// Run prints a socket and a service.
func (c *apiUnitCmd) Run(s *session) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		self, err := s.selfWords(h)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, `# forge-api.socket
[Unit]
Description=Docker's Engine API of forge

[Socket]
ListenStream=%s
SocketMode=0660
DirectoryMode=0755

[Install]
WantedBy=sockets.target

# forge-api.service
[Unit]
Description=Docker's Engine API of forge
Requires=forge-api.socket
After=network-online.target local-fs.target

[Service]
Type=exec
ExecStart=%s
KillMode=process
Delegate=yes
`, path, execLine(slices.Concat(self, []string{"api"})))
		return err
	})
}

type apiContextCmd struct {
	socketFlag
	Name string `arg:"" optional:"" help:"Name of the context." default:"forge" placeholder:"NAME"`
}

// Run makes the context, or changes it.
func (c *apiContextCmd) Run(s *session) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	if err := forge.WriteDockerContext(c.Name, "unix://"+path); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s\n", c.Name)
	if err == nil {
		_, err = fmt.Fprintf(s.err, "Use it with: docker context use %s\n", c.Name)
	}
	return err
}
