package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/runtime"
)

// commandNotFound is a shell's exit status for a command that it cannot execute.
const commandNotFound = 127

// leastFree is how much of a disk is left, in bytes, when it counts as full.
const leastFree = 1 << 20

// reason is why a command has failed, as far as that is not for the command to know; nil if there is nothing to tell.
func (w *Worker) reason(c *container.Container, code int, said *listener) error {
	if args := c.Args(); code == commandNotFound && len(args) > 0 { // of a shell, the command is the last argument
		word, _, _ := strings.Cut(args[len(args)-1], " ")
		if missing := c.MissingInterpreter(word); missing != "" {
			return errors.New(missing)
		}
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(w.Layout.Root(), &disk); err == nil && disk.Bavail*uint64(disk.Bsize) < leastFree {
		return fmt.Errorf("the disk that has %s is full (%s left): forge system prune makes room", w.Layout.Root(), units.HumanSize(float64(disk.Bavail*uint64(disk.Bsize))))
	}
	if reason, one := runtime.OneID(); one && said.heard {
		return fmt.Errorf("files and processes cannot be given to another user, because forge has one ID here: %s; a range in /etc/subuid and /etc/subgid, and newuidmap, let it have more", reason)
	}
	return nil
}

// A listener passes on what a command prints, and hears whether it complains of an ID that there is not.
type listener struct {
	w     io.Writer
	last  []byte // end of what was printed before
	heard bool
}

func (l *listener) Write(p []byte) (int, error) {
	if !l.heard {
		text := append(l.last, p...)
		for _, words := range []string{"Invalid argument", "setgroups", "setegid", "seteuid"} {
			l.heard = l.heard || bytes.Contains(text, []byte(words))
		}
		const longest = len("Invalid argument")
		l.last = append(l.last[:0], text[max(0, len(text)-longest):]...)
	}
	return l.w.Write(p)
}
