package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/forge-build/forge"
)

// needTerminal fails, in docker's words, unless the caller's input is a terminal.
func needTerminal(in *os.File) error {
	if !term.IsTerminal(int(in.Fd())) {
		return &failure{1, errors.New("the input device is not a TTY")}
	}
	return nil
}

// rawTerminal makes the caller's terminal pass everything on. What it returns puts it back.
func rawTerminal(in *os.File) (restore func(), err error) {
	if err := needTerminal(in); err != nil {
		return nil, err
	}
	fd := int(in.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = term.Restore(fd, old) }, nil
}

// terminalSize is the size of the caller's terminal; zero if there is none.
func terminalSize() (size forge.TerminalSize) {
	if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		size.Rows, size.Cols = uint16(rows), uint16(cols)
	}
	return size
}

// followSize tells the sizes that the caller's terminal gets, until stop is called.
func followSize() (sizes <-chan forge.TerminalSize, stop func()) {
	changed, told, stopped := make(chan os.Signal, 1), make(chan forge.TerminalSize), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-stopped:
				return
			case <-changed:
			}
			select {
			case <-stopped:
			case told <- terminalSize():
			}
		}
	}()
	return told, func() {
		signal.Stop(changed)
		close(stopped)
	}
}
