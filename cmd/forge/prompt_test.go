package main

import (
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPrompt interrupts commands that ask something: one signal ends them, and the terminal shows again what is typed.
func TestPrompt(t *testing.T) {
	k := newKit(t)
	for _, test := range []struct {
		question, typed string
		status          int
		args            []string
	}{
		{"[y/N] ", "\x03", 130, []string{"container", "prune"}},
		{"[y/N] ", "\x04", 0, []string{"container", "prune"}},
		{"[y/N] ", "n\n", 0, []string{"builds", "prune"}},
		{"Username: ", "\x03", 130, []string{"login", "127.0.0.1:1"}},
		{"Username: ", "\x04", 1, []string{"login", "127.0.0.1:1"}},
		{"Password: ", "\x03", 130, []string{"login", "-u", "me", "127.0.0.1:1"}},
		{"Password: ", "\n", 1, []string{"login", "-u", "me", "127.0.0.1:1"}},
	} {
		w := k.terminal(test.args...)
		w.expect(test.question)
		silent := w.flags()&unix.ECHO == 0
		if want := test.question == "Password: "; silent != want {
			t.Errorf("%q: the terminal is silent: %v, want %v", test.args, silent, want)
		}
		if _, err := w.pty.WriteString(test.typed); err != nil {
			t.Fatal(err)
		}
		w.ends(test.status)
		if w.flags()&unix.ECHO == 0 {
			t.Errorf("%q left the terminal silent", test.args)
		}
	}
}

// flags are the local modes of the terminal.
func (w *typist) flags() (flags uint32) {
	w.t.Helper()
	conn, err := w.pty.SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.Control(func(fd uintptr) {
		var modes *unix.Termios
		if modes, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			flags = modes.Lflag
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return flags
}

// TestStuckInput ends commands whose standard input gives nothing.
func TestStuckInput(t *testing.T) {
	k := newKit(t)
	for _, args := range [][]string{{"bake", "-f", "-"}, {"login", "-u", "me", "--password-stdin", "127.0.0.1:1"}, {"load"}, {"build", "-"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		a := k.command(args...)
		a.Stdin = r
		k.start(a)
		if _, err := io.WriteString(w, " "); err != nil {
			t.Fatal(err)
		}
		for full := true; full; time.Sleep(time.Millisecond) { // until it is read
			n, err := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ)
			if err != nil {
				t.Fatal(err)
			}
			full = n > 0
		}
		if err := a.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = a.Wait()
		if a.status() != 143 {
			t.Errorf("%q: exit status %d, want 143\n%s", args, a.status(), a.err.String())
		}
		_, _ = r.Close(), w.Close()
	}
}
