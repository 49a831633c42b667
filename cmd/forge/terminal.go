package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
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

// followSize tells the size of the caller's terminal, now and whenever it changes, until what it returns is called.
func followSize(tell func(rows, cols uint16) error) (stop func()) {
	resize := func() {
		if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			_ = tell(uint16(rows), uint16(cols)) // what has ended needs none
		}
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	resize()
	go func() {
		for range changed {
			resize()
		}
	}()
	return func() {
		signal.Stop(changed)
		close(changed)
	}
}
