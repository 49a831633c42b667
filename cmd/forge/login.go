package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge"
)

type loginCmd struct {
	Server        string `arg:"" optional:"" default:"docker.io" help:"Registry, host[:port]."`
	Username      string `short:"u" help:"User name." placeholder:"NAME"`
	Password      string `short:"p" help:"Password; others can see it, so rather use --password-stdin." placeholder:"PASSWORD"`
	PasswordStdin bool   `help:"Read the password from standard input."`
	Insecure      bool   `help:"Allow http, and TLS without verification."`
}

func (c *loginCmd) Run(s *session) error {
	user, password, err := c.credential(s)
	if err != nil {
		return err
	}
	file, err := forge.Login(s.ctx, c.Server, user, password, forge.RemoteOptions{Insecure: c.Insecure})
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if file != "" {
		_, _ = fmt.Fprintf(s.err, "forge: warning: the password lies unencrypted in %s; a credential helper keeps it better\n", file)
	}
	_, _ = fmt.Fprintln(s.out, "Login Succeeded")
	return nil
}

// credential asks for what the flags do not say.
func (c *loginCmd) credential(s *session) (user, password string, err error) {
	user, password = c.Username, c.Password
	switch {
	case c.PasswordStdin && password != "":
		return "", "", errors.New("--password and --password-stdin exclude each other")
	case c.PasswordStdin && user == "":
		return "", "", errors.New("--password-stdin needs --username")
	case c.PasswordStdin:
		text, err := io.ReadAll(io.LimitReader(forge.Input(s.ctx, s.in), 1<<20))
		password = strings.TrimRight(string(text), "\r\n")
		if err == nil && password == "" {
			err = errors.New("the password on standard input is empty")
		}
		return user, password, err
	}
	terminal := term.IsTerminal(int(s.in.Fd()))
	if !terminal && (user == "" || password == "") {
		return "", "", errors.New("standard input is not a terminal: use --username and --password-stdin")
	}
	if user == "" {
		if user, err = s.ask("Username: "); err != nil {
			return "", "", err
		}
		user = strings.TrimSpace(user)
	}
	if user != "" && password == "" {
		if password, err = s.askSecret("Password: "); err != nil {
			return "", "", err
		}
	}
	if user == "" || password == "" {
		return "", "", errors.New("user name and password must not be empty")
	}
	return user, password, nil
}

type logoutCmd struct {
	Server string `arg:"" optional:"" default:"docker.io" help:"Registry, host[:port]."`
}

func (c *logoutCmd) Run(s *session) error {
	had, err := forge.Logout(s.ctx, c.Server)
	if err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	if !had {
		_, _ = fmt.Fprintln(s.out, "Not logged in to", forge.RegistryHost(c.Server))
		return nil
	}
	_, _ = fmt.Fprintln(s.out, "Removing login credentials for", forge.RegistryHost(c.Server))
	return nil
}
