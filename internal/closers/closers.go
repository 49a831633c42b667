// Package closers gives back what was opened, the last first.
package closers

import (
	"errors"
	"io"
)

// A Stack holds functions that close what was opened. The zero value is empty. Not safe for concurrent use.
type Stack []func() error

// Push adds a function.
func (s *Stack) Push(f func() error) { *s = append(*s, f) }

// Close calls all functions, the last first, whether one fails or not, and forgets them.
func (s *Stack) Close() error {
	var errs []error
	for len(*s) > 0 {
		last := (*s)[len(*s)-1]
		*s = (*s)[:len(*s)-1]
		errs = append(errs, last())
	}
	return errors.Join(errs...)
}

// A Reader reads from one and closes another.
type Reader struct {
	io.Reader
	io.Closer
}
