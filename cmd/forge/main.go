// Command forge builds container images from Dockerfiles, keeps them, moves them to and from registries and runs them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// A session is what every command is given.
type session struct {
	ctx      context.Context
	options  forge.Options
	signals  *signals
	confined error // why an ordinary user has no user namespace; nil if there is one, or none is needed
	in       *os.File
	out, err io.Writer
}

// open opens the store.
func (s *session) open() (*forge.Home, error) { return forge.Open(s.ctx, s.options) }

// withHome opens the store for do and closes it again.
func (s *session) withHome(do func(*forge.Home) error) (err error) {
	h, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return do(h)
}

func main() {
	if forge.IsMonitor() {
		os.Exit(forge.Monitor())
	}
	if forge.IsReaper() {
		forge.Reap()
		return
	}
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "executor" { // as in kaniko's image
		args = append([]string{"executor"}, args...)
	}
	os.Exit(run(args))
}

// enter makes an ordinary user root of a user namespace, where the command touches layers or containers. What keeps it from that
// matters only to what needs it: a build without RUN does not.
func enter(command, store string) error {
	switch name, _, _ := strings.Cut(command, " "); name {
	case "version", "login", "logout", "copy", "registry", "search", "completion", "__complete", "__man":
		return nil
	}
	return forge.EnterUserNamespace(store)
}

// run runs a command line.
func run(args []string) int {
	if err := readEnvironment(); err != nil {
		return report(os.Stderr, err)
	}
	args, err := withoutNoun(args)
	if err != nil {
		return report(os.Stderr, err)
	}
	if text := nounHelp(args); text != "" {
		_, err := io.WriteString(os.Stdout, text)
		return report(os.Stderr, err)
	}
	if at := commandAt(args); at < len(args) && slices.Contains([]string{"run", "build"}, args[at]) {
		go forge.Warm(args[at]) // on another processor
	}
	var c cli
	parsed, err := parse(&c, args)
	if err != nil {
		return report(os.Stderr, explainUsage(err))
	}
	// It executes this program again: all of this is done for a second time, and nothing else has been done before.
	confined := enter(parsed.command, c.Store)
	ctx, signals := newSignals(context.Background())
	defer signals.cancel(nil) // and the signals are not given back, which takes 0.2 ms: the process ends
	out := ui.NewOutput(os.Stdout)
	s := &session{
		ctx:     ctx,
		options: forge.Options{Dir: c.Store, Snapshotter: c.Snapshotter, Command: parsed.command},
		signals: signals, confined: confined,
		in: os.Stdin, out: out, err: os.Stderr,
	}
	limitMemory(parsed.command)
	if err = parsed.Run(s); err == nil {
		err = out.Lost()
	}
	if u, ok := errors.AsType[*usageError](err); ok && u.command == "" {
		u.command = "forge " + s.options.Command
	}
	if err != nil && confined != nil && errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w; %w", err, confined)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return report(os.Stderr, err)
}

// A status is an error that has been told already, or needs no telling: only the exit status is left.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// report prints what went wrong and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[status](err); ok {
		return int(s)
	}
	if i, ok := errors.AsType[*interrupt](err); ok {
		return 128 + int(i.signal)
	}
	_, _ = io.WriteString(w, "forge: "+strings.TrimRight(ui.Lines(explain(err)), "\n")+"\n")
	if u, ok := errors.AsType[*usageError](err); ok {
		_, _ = fmt.Fprintf(w, "see %s --help\n", u.command)
		return u.status
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	return 1
}
