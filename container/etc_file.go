package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An etcFile is a file of ours that a container has, and may write to.
type etcFile struct {
	path, text string // text is what we have written last
	file       *os.File
}

// maxEtc is how much of what a container has made of a file is read, in bytes.
const maxEtc = 1 << 20

// SetNetwork says what the container is connected to from now on, while it runs. Its hosts get the addresses that are new and
// lose those that are gone; its resolv.conf is written anew, unless the container has changed it.
func (c *Container) SetNetwork(n Network) error {
	c.Network = n
	var errs []error
	for _, f := range c.etc {
		make := c.hosts
		if f.path == resolvPath {
			make = func() (string, error) { return resolvConf(n) }
		}
		text, err := make()
		if err == nil {
			err = f.change(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of the container: %w", f.path, err))
		}
	}
	return errors.Join(errs...)
}

// A HeldFile is a file of /etc that changes with the network, for the program that its owner executes in its own place.
type HeldFile struct {
	Path, Text string // what we have written
	FD         int
}

// HeldFiles are those of the container.
func (c *Container) HeldFiles() (list []HeldFile) {
	for _, f := range c.etc {
		list = append(list, HeldFile{f.path, f.text, int(f.file.Fd())})
	}
	return list
}

// Adopt makes a Container, which runs, of what another program has held of it, for SetNetwork and Close.
func (f *Factory) Adopt(o Options, files []HeldFile) *Container {
	c := &Container{factory: f, options: &o}
	for _, h := range files {
		unix.CloseOnExec(h.FD)
		file := os.NewFile(uintptr(h.FD), h.Path)
		c.open.Push(file.Close)
		c.etc = append(c.etc, &etcFile{path: h.Path, text: h.Text, file: file})
	}
	return c
}

// change gives the file another text. The container may write to it at any time, and keeps what it has written itself.
func (f *etcFile) change(text string) error {
	if text == f.text {
		return nil
	}
	b, err := io.ReadAll(io.NewSectionReader(f.file, 0, maxEtc))
	if err != nil {
		return err
	}
	now, old := string(b), f.text
	f.text = text
	switch {
	case now == old:
	case f.path == resolvPath || len(b) == maxEtc:
		return nil
	default:
		text = merge(now, old, text)
	}
	// In place: it is mounted, and a file that takes its name would not be. Who reads meanwhile sees the beginning.
	if _, err := f.file.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return f.file.Truncate(int64(len(text)))
}

// merge takes from now the lines that are in old and not in wanted, and adds those that are in wanted and not in old.
func merge(now, old, wanted string) string {
	before, after := strings.SplitAfter(old, "\n"), strings.SplitAfter(wanted, "\n")
	var b strings.Builder
	for line := range strings.Lines(now) {
		if !slices.Contains(before, line) || slices.Contains(after, line) {
			b.WriteString(line)
		}
	}
	if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			b.WriteString(line)
		}
	}
	return b.String()
}
