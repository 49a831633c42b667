package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/forge-build/forge"
)

// confirmed asks whether to remove something, unless force is given.
func confirmed(s *session, force bool, what string) (bool, error) {
	if force {
		return true, nil
	}
	if !term.IsTerminal(int(s.in.Fd())) {
		return false, errors.New("prune: standard input is not a terminal: say -f")
	}
	answer, err := s.ask("This removes " + what + ". Go on? [y/N] ")
	return err == nil && strings.EqualFold(strings.TrimSpace(answer), "y"), err
}

// ask asks a question on the terminal, and reads a line, until the command is interrupted. The end of the input is an empty answer.
func (s *session) ask(question string) (string, error) {
	_, _ = io.WriteString(s.err, question)
	line, err := bufio.NewReader(forge.Input(s.ctx, s.in)).ReadString('\n')
	if errors.Is(err, io.EOF) {
		_, _ = fmt.Fprintln(s.err)
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// askSecret is ask for what the terminal is not to show.
func (s *session) askSecret(question string) (answer string, err error) {
	fd := int(s.in.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	silent := *was
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	defer func() {
		err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, was))
		_, _ = fmt.Fprintln(s.err)
	}()
	return s.ask(question)
}
