package network

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHandoverUnderLoad: who asks for names or connects while a sandbox is about to be handed over gets an answer, sooner or later.
func TestHandoverUnderLoad(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n"})
	b := run(t, s, Options{Container: strings.Repeat("a", 64), Name: "one", Networks: []Attachment{{Network: "n"}}, Ports: ports(t, "[::1]:8080:80")})
	if _, err := b.NameServer(nil); err != nil {
		t.Fatal(err)
	}
	serve(t, b.Namespace, "tcp", ":80", "page")
	var asking sync.WaitGroup
	const each = 200
	for range 4 {
		asking.Go(func() {
			for range each {
				if got, want := lookup(t, b, "udp", "one"), b.Endpoints()[0].Address.Addr().String(); got != want {
					t.Errorf("one is %s, want %s", got, want)
					return
				}
			}
		})
	}
	asking.Go(func() {
		for range each {
			wantReach(t, "during a handover", nil, "tcp", "[::1]:8080", "page")
		}
	})
	ended := make(chan struct{})
	go func() {
		asking.Wait()
		close(ended)
	}()
	again := errors.New("goes on")
	tried := 0
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		default:
		}
		err := b.Handover(0, func(h *Handover) error {
			if len(h.Names) != 2 || len(h.Ports) != 1 || h.Names[0] < 0 || h.Ports[0] < 0 {
				t.Errorf("handed over: %+v", h)
			}
			tried++
			return again
		})
		if !errors.Is(err, again) && !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
	}
	if tried == 0 {
		t.Error("it was never handed over")
	}
	if err := b.Handover(time.Hour, func(*Handover) error { return again }); !errors.Is(err, ErrBusy) {
		t.Errorf("just after that: %v, want %v", err, ErrBusy)
	}
}

// TestAdopt: a sandbox that was handed over is served by who takes it over: what came meanwhile, too.
func TestAdopt(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "n"})
	b := run(t, s, Options{Container: strings.Repeat("a", 64), Name: "one", Networks: []Attachment{{Network: "n"}}, Ports: ports(t, "[::1]:8080:80")})
	if _, err := b.NameServer([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}); err != nil {
		t.Fatal(err)
	}
	serve(t, b.Namespace, "tcp", ":80", "page")
	var next *Sandbox
	err := b.Handover(0, func(h *Handover) error {
		names := make(chan string)
		pages := make(chan error)
		go func() { names <- lookup(t, b, "udp", "one") }()
		go func() { _, _, err := reach(nil, "tcp", "[::1]:8080"); pages <- err }()
		// As execve(2) keeps them, here as copies.
		for _, fd := range []*int{&h.Namespace, &h.Ports[0], &h.Names[0], &h.Names[1], &h.Endpoints[0].File} {
			*fd, _ = unix.Dup(*fd)
		}
		var err error
		if next, err = s.Adopt(h); err != nil {
			return err
		}
		if got, want := <-names, h.Endpoints[0].Address.Addr().String(); got != want {
			t.Errorf("one is %s, want %s", got, want)
		}
		return <-pages
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
}
