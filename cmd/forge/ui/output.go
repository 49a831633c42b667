package ui

import (
	"io"
	"os"
	"sync"
)

// An Output is standard output. It keeps the first error of a write, so that a command whose result was lost fails, also where it goes on with
// its work.
type Output struct {
	file *os.File

	mu  sync.Mutex // guards all below
	err error
}

// NewOutput returns what writes to a file.
func NewOutput(f *os.File) *Output { return &Output{file: f} }

func (o *Output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.keep(err)
	return n, err
}

// ReadFrom lets the kernel copy what it can.
func (o *Output) ReadFrom(r io.Reader) (int64, error) {
	n, err := o.file.ReadFrom(r)
	o.keep(err)
	return n, err
}

func (o *Output) keep(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

// Lost is the error of the first write that failed.
func (o *Output) Lost() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
