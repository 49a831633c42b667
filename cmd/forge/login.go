package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge/registry"
)

type loginCmd struct {
	Server        string `arg:"" optional:"" default:"docker.io" help:"Registry, host[:port]."`
	Username      string `short:"u" help:"User name." placeholder:"NAME"`
	Password      string `short:"p" help:"Password; others can see it, so rather use --password-stdin." placeholder:"PASSWORD"`
	PasswordStdin bool   `help:"Read the password from standard input."`
	Insecure      bool   `help:"Allow http, and TLS without verification."`
}

func (c *loginCmd) Run(s *session) error {
	cred, err := c.credential(s)
	if err != nil {
		return &usageError{1, err}
	}
	client := registry.NewClient(registry.Options{Insecure: c.Insecure})
	where, err := client.Login(s.ctx, registryHost(c.Server), cred)
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if where.Path != "" {
		_, _ = fmt.Fprintf(s.err, "forge: warning: the password lies unencrypted in %s; a credential helper keeps it better\n", where.Path)
	}
	_, _ = fmt.Fprintln(s.out, "Login Succeeded")
	return nil
}

// registryHost is a registry as people type it, without scheme and path.
func registryHost(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ := strings.Cut(s, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}

func (c *loginCmd) credential(s *session) (registry.Credential, error) {
	cred := registry.Credential{Username: c.Username, Password: c.Password}
	in := bufio.NewReader(s.in)
	switch {
	case c.PasswordStdin && c.Password != "":
		return cred, errors.New("--password and --password-stdin exclude each other")
	case c.PasswordStdin && c.Username == "":
		return cred, errors.New("--password-stdin needs --username")
	case c.PasswordStdin:
		text, err := io.ReadAll(io.LimitReader(in, 1<<20))
		cred.Password = strings.TrimRight(string(text), "\r\n")
		if err == nil && cred.Password == "" {
			err = errors.New("the password on standard input is empty")
		}
		return cred, err
	}
	terminal := term.IsTerminal(int(s.in.Fd()))
	if !terminal && (cred.Username == "" || cred.Password == "") {
		return cred, errors.New("standard input is not a terminal: use --username and --password-stdin")
	}
	if cred.Username == "" {
		_, _ = fmt.Fprint(s.err, "Username: ")
		line, err := in.ReadString('\n')
		if err != nil {
			return cred, err
		}
		cred.Username = strings.TrimSpace(line)
	}
	if cred.Password == "" {
		_, _ = fmt.Fprint(s.err, "Password: ")
		text, err := term.ReadPassword(int(s.in.Fd()))
		_, _ = fmt.Fprintln(s.err)
		if err != nil {
			return cred, err
		}
		cred.Password = string(text)
	}
	if cred.Username == "" || cred.Password == "" {
		return cred, errors.New("user name and password must not be empty")
	}
	return cred, nil
}

type logoutCmd struct {
	Server string `arg:"" optional:"" default:"docker.io" help:"Registry, host[:port]."`
}

func (c *logoutCmd) Run(s *session) error {
	host := registryHost(c.Server)
	had, err := registry.NewClient(registry.Options{}).Logout(s.ctx, host)
	if err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	if !had {
		_, _ = fmt.Fprintln(s.out, "Not logged in to", host)
		return nil
	}
	_, _ = fmt.Fprintln(s.out, "Removing login credentials for", host)
	return nil
}
