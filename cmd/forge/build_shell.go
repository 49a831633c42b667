package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// shellFlags say when a build that stops gives a shell where it has stopped.
type shellFlags struct {
	Shell   shellFlag `help:"Where a step fails, give a shell in what it has: always (alone), ask (on a terminal, if not given) or never." placeholder:"WHEN" env:"FORGE_BUILD_SHELL"`
	ShellAt string    `help:"Give a shell before or after a step: its number, a stage or [FILE]:LINE." placeholder:"[before:|after:]STEP"`
}

// A shellFlag is when to give a shell. It may stand alone.
type shellFlag string

const (
	shellAlways shellFlag = "always"
	shellAsk    shellFlag = "ask"
	shellNever  shellFlag = "never"
)

// Decode implements kong.MapperValue.
func (f *shellFlag) Decode(ctx *kong.DecodeContext) error {
	*f = shellAlways
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch value := shellFlag(fmt.Sprint(ctx.Scan.Pop().Value)); value {
	case "true":
	case "false":
		*f = shellNever
	case shellAlways, shellAsk, shellNever:
		*f = value
	default:
		return fmt.Errorf("%q: must be always, ask or never", string(value))
	}
	return nil
}

// IsBool tells kong that the value may be left out.
func (f *shellFlag) IsBool() bool { return true }

// wanted reports whether a build that stops asks what to do. It fails if it is to give a shell and there is no terminal.
func (f shellFlags) wanted(s *session, c *buildCmd) (bool, error) {
	terminal := term.IsTerminal(int(s.in.Fd()))
	switch {
	case !f.asked():
		return f.Shell != shellNever && terminal && c.File != "-" && c.Context != "-" && !c.Quiet && c.Progress == "auto" && inForeground(), nil
	case c.File == "-" || c.Context == "-":
		return false, badUsage(errors.New("--shell: standard input is what is built: name a file or a directory"))
	case !terminal:
		return false, badUsage(errors.New("--shell: standard input is not a terminal"))
	}
	if err := forge.CheckShell(c.Isolation); err != nil {
		return false, fmt.Errorf("--shell: %w", err)
	}
	return true, nil
}

// asked reports whether somebody has asked for a shell, and is not only offered one.
func (f shellFlags) asked() bool { return f.Shell == shellAlways || f.ShellAt != "" }

// inForeground reports whether people see what is asked on this terminal, and what they type is read.
func inForeground() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp() && term.IsTerminal(int(os.Stderr.Fd()))
}

// A byHand is a build that people have a hand in: it stops, and goes on as they say.
type byHand struct {
	session *session
	flags   *buildCmd
	file    string // the build file; "" if it is no file of this machine
}

// buildByHand builds, and where the build stops does what people want. It returns what the last attempt came to.
func (c *buildCmd) buildByHand(s *session, h *forge.Home, o forge.BuildOptions) (*forge.BuildResult, error) {
	o.BreakOnFailure, o.At = true, c.ShellAt
	a := &byHand{session: s, flags: c}
	began := time.Now()
	for {
		r, err := c.once(s, h, o)
		if r == nil {
			r = &forge.BuildResult{}
		}
		planned := r.Stopped != nil || !o.Since.IsZero() // else there is nothing yet that could be lost
		if err == nil && r.Stopped == nil || !planned || s.ctx.Err() != nil {
			return r, errors.Join(err, closeStopped(r))
		}
		again, askErr := a.ask(r.Stopped, err)
		if err := errors.Join(askErr, closeStopped(r)); err != nil {
			return nil, err
		}
		if !again {
			return nil, status(1) // it has been told
		}
		o.Since, o.At = began, ""
	}
}

// A questioned error is followed by the question what to do about it.
type questioned struct{ error }

func (q *questioned) Unwrap() error { return q.error }

func closeStopped(r *forge.BuildResult) error {
	if r.Stopped == nil {
		return nil
	}
	return r.Stopped.Close()
}

// ask does what people want where the build has stopped, until they want it to go on, or to be left. There is nothing to stand in if at is nil.
func (a *byHand) ask(at *forge.Stopped, failure error) (again bool, err error) {
	if failure != nil {
		report(a.session.err, &questioned{failure})
	}
	if at != nil {
		a.file = at.File
		if a.flags.asked() {
			a.shell(at)
		}
	}
	for {
		answer, err := a.answer(at, failure)
		switch {
		case err != nil:
			return false, err
		case answer == "s" && at != nil:
			a.shell(at)
		case answer == "r" || answer == "c":
			return true, nil
		case answer == "e" && a.file != "":
			if err := a.edit(); err == nil {
				return true, nil
			}
			report(a.session.err, err)
		case answer == "q", answer == "" && !a.flags.asked():
			return false, nil
		}
	}
}

// answer asks what to do, and reads a line.
func (a *byHand) answer(at *forge.Stopped, failure error) (string, error) {
	var choices []string
	if at != nil {
		choices = append(choices, fmt.Sprintf("s: shell in step %d", at.Step.Number))
	}
	if failure != nil {
		choices = append(choices, "r: retry")
	} else {
		choices = append(choices, "c: go on")
	}
	if a.file != "" {
		choices = append(choices, "e: edit "+ui.Lines(filepath.Base(a.file))+" and go on")
	}
	quit := "q: quit"
	if !a.flags.asked() {
		quit = "q or Enter: quit"
	}
	return a.line(strings.Join(append(choices, quit), "   ") + " > ")
}

// line asks a question and reads a line of the terminal. Its end is the answer "q".
func (a *byHand) line(question string) (string, error) {
	tty, err := openTerminal()
	if err != nil {
		return "", err
	}
	defer tty.Close()
	defer context.AfterFunc(a.session.ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })()
	_, _ = io.WriteString(tty, question)
	line, err := bufio.NewReader(io.LimitReader(tty, 4<<10)).ReadString('\n')
	if cause := context.Cause(a.session.ctx); cause != nil {
		return "", cause
	}
	if errors.Is(err, io.EOF) {
		_, _ = io.WriteString(tty, "\n")
		return "q", nil
	}
	return strings.ToLower(strings.TrimSpace(line)), err
}

// openTerminal opens the terminal that this process belongs to, so that it can be closed while it is read: what is typed later is for somebody
// else.
func openTerminal() (*os.File, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return tty, nil
}

// edit has the build file edited.
func (a *byHand) edit() error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"))
	if editor == "" {
		_, err := a.line("edit " + ui.Lines(a.file) + ", then press Enter > ")
		return err
	}
	// As git does: the variable may hold arguments.
	cmd := exec.CommandContext(a.session.ctx, "/bin/sh", "-c", editor+` "$1"`, editor, a.file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.session.in, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; set EDITOR", editor, err)
	}
	return nil
}

// shell gives a shell where the build has stopped, until it is left.
func (a *byHand) shell(at *forge.Stopped) {
	if err := a.inShell(at); err != nil {
		report(a.session.err, err)
	}
}

// stepTitle is a step's name in one line.
func stepTitle(name string) string {
	const most = 100
	name = strings.Join(strings.Fields(ui.Lines(name)), " ")
	if r := []rune(name); len(r) > most {
		return string(r[:most]) + "…"
	}
	return name
}

func (a *byHand) inShell(at *forge.Stopped) error {
	tty, err := openTerminal()
	if err != nil {
		return err
	}
	defer tty.Close()
	where := map[string]string{"": "as it failed", "before": "before it", "after": "after it"}[at.Place]
	_, _ = fmt.Fprintf(tty, "Step %d, %s: %s\nNothing that you do here is kept. Leave with exit.\n", at.Step.Number, where, stepTitle(at.Step.Name))
	size := terminalSize()
	terminal := forge.Terminal{Name: cmp.Or(os.Getenv("TERM"), "xterm"), Rows: size.Rows, Cols: size.Cols}
	p, err := at.Shell(a.session.ctx, terminal, forge.Stdio{In: tty, Out: tty})
	if err != nil {
		return err
	}
	restore, err := rawTerminal(a.session.in)
	if err != nil {
		return errors.Join(err, p.Signal(syscall.SIGKILL))
	}
	defer restore()
	sizes, stop := followSize()
	defer stop()
	go func() {
		for {
			select {
			case size := <-sizes:
				_ = p.Resize(size.Rows, size.Cols) // what has ended needs none
			case <-p.Gone():
				return
			}
		}
	}()
	_, err = p.Wait() // what the last command in it came to says nothing
	return err
}
