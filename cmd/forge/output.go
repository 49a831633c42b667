package main

import (
	"io"
	"os"
	"sync"
)

// An output is standard output. It keeps the first error of a write, so that a command whose result was lost fails, also where it goes on with
// its work.
type output struct {
	file *os.File

	mu  sync.Mutex // guards all below
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.keep(err)
	return n, err
}

// ReadFrom lets the kernel copy what it can.
func (o *output) ReadFrom(r io.Reader) (int64, error) {
	n, err := o.file.ReadFrom(r)
	o.keep(err)
	return n, err
}

// Fd is the descriptor, for who asks whether it is a terminal.
func (o *output) Fd() uintptr { return o.file.Fd() }

func (o *output) keep(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

// lost is the error of the first write that failed.
func (o *output) lost() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
