package network

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A Handover is a [Sandbox] as plain data, for the program that its owner executes in its own place: execve(2) keeps the
// descriptors that are named here, and their locks.
type Handover struct {
	Container string
	Name      string
	Namespace int
	Endpoints []HeldEndpoint
	Upstream  []netip.AddrPort // name servers, for names that it may get later
}

// A HeldEndpoint is one whose file is locked.
type HeldEndpoint struct {
	Endpoint
	Outer string // its interface on this machine
	File  int
}

// Descriptors are all that have to stay open.
func (h *Handover) Descriptors() []int {
	open := []int{h.Namespace}
	for _, e := range h.Endpoints {
		open = append(open, e.File)
	}
	return open
}

// ErrBusy says that a sandbox cannot be handed over: it has ports or names, which are served at any time, or there is a process that
// would end with this program's threads (pasta).
var ErrBusy = errors.New("the network of the container is in use")

// Handover calls do with what [Store.Adopt] needs. While do runs, nothing comes to this program from the network; if it
// returns, all goes on as before.
func (b *Sandbox) Handover(do func(*Handover) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pasta != nil || b.ports != nil || b.names != nil {
		return ErrBusy
	}
	h := &Handover{Container: b.container, Name: b.name, Namespace: int(b.Namespace.Fd()), Upstream: b.upstream}
	for _, l := range b.leases {
		h.Endpoints = append(h.Endpoints, HeldEndpoint{l.Endpoint, l.outer, int(l.file.Fd())})
	}
	return do(h)
}

// Adopt makes a Sandbox of what [Sandbox.Handover] gave in the program before execve(2).
func (s *Store) Adopt(h *Handover) (_ *Sandbox, err error) {
	b := &Sandbox{store: s, container: h.Container, name: h.Name, upstream: h.Upstream, Namespace: inherited(h.Namespace)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	for _, e := range h.Endpoints {
		l := &lease{Endpoint: e.Endpoint, outer: e.Outer, file: inherited(e.File)}
		b.leases = append(b.leases, l)
		if l.network, err = s.Find(e.NetworkID); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func inherited(fd int) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "inherited")
}
