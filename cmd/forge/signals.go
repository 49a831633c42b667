package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// An interrupt is the signal that ended the program.
type interrupt struct{ signal syscall.Signal }

func (i *interrupt) Error() string { return "interrupted by " + i.signal.String() }

// maxIgnoredSignals is how many SIGINTs and SIGTERMs a container's command may ignore.
const maxIgnoredSignals = 3

// signals decides what SIGINT and SIGTERM do. The first cancels the command's context and the second ends the program at
// once: the store is whole at any moment. While a process of a container has the foreground all signals are its.
type signals struct {
	cancel context.CancelCauseFunc
	ch     chan os.Signal

	mu         sync.Mutex           // guards all below
	foreground func(syscall.Signal) // passes signals on; nil while this program has the foreground
	count      int
}

// newSignals takes SIGINT and SIGTERM, and returns a context that they cancel.
func newSignals(parent context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(parent)
	s := &signals{cancel: cancel, ch: make(chan os.Signal, 8)}
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM)
	// So a file that grows beyond its limit is an error of the write. To ignore it would be inherited by containers.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGXFSZ)
	go func() {
		for sig := range s.ch {
			if number, ok := sig.(syscall.Signal); ok {
				s.handle(number)
			}
		}
	}()
	return ctx, s
}

func (s *signals) handle(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ending := sig == syscall.SIGINT || sig == syscall.SIGTERM
	if ending {
		s.count++
	}
	switch {
	case s.foreground != nil && (!ending || s.count < maxIgnoredSignals):
		s.foreground(sig)
	case s.foreground == nil && s.count > 1 || s.count > maxIgnoredSignals:
		os.Exit(128 + int(sig))
	case ending:
		s.cancel(&interrupt{sig})
	}
}

// forward gives the foreground to a container, to which pass passes signals on.
func (s *signals) forward(pass func(syscall.Signal)) {
	s.mu.Lock()
	s.foreground = pass
	s.mu.Unlock()
	signal.Notify(s.ch, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT, syscall.SIGALRM)
}
