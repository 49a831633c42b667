package closers

import (
	"errors"
	"testing"
)

func TestClose(t *testing.T) {
	var order string
	bad := errors.New("bad")
	var s Stack
	s.Push(func() error { order += "a"; return nil })
	s.Push(func() error { order += "b"; return bad })
	s.Push(func() error { order += "c"; s.Push(func() error { order += "d"; return nil }); return nil })
	if err := s.Close(); !errors.Is(err, bad) || order != "cdba" {
		t.Errorf("Close() = %v in the order %q", err, order)
	}
	if err := s.Close(); err != nil || order != "cdba" {
		t.Errorf("closed again: %v, %q", err, order)
	}
}
