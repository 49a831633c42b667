package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/forge-build/forge/runtime"
)

// relayAddress is where a container finds the name server that is relayed: a loopback address of its own. It is docker's.
const relayAddress = "127.0.0.11"

const (
	relayPort    = "53"
	relayTimeout = 5 * time.Second // for an answer, as of resolv.conf(5)
	relayQueries = 64              // at work at once for one container; others wait
	relayMessage = 65535           // bytes
)

// A relay passes questions of a container on to name servers of this machine that a container cannot reach: those on its
// loopback interface. It asks from this machine's network namespace and answers in the container's.
type relay struct {
	servers []netip.AddrPort
	udp     net.PacketConn
	tcp     net.Listener
	slots   chan struct{}
	done    chan struct{}
	work    sync.WaitGroup
}

// Relay makes name servers of this machine reachable for the container, and returns the address of one that stands for all
// of them. It lasts until Close.
func (n *Sandbox) Relay(servers []netip.AddrPort) (netip.Addr, error) {
	addr := netip.MustParseAddr(relayAddress)
	if n.relay != nil {
		return addr, nil
	}
	r := &relay{servers: servers, slots: make(chan struct{}, relayQueries), done: make(chan struct{})}
	err := runtime.InNetworkNamespace(n.Namespace, func() (err error) {
		if r.udp, err = net.ListenPacket("udp4", relayAddress+":"+relayPort); err != nil {
			return err
		}
		if r.tcp, err = net.Listen("tcp4", relayAddress+":"+relayPort); err != nil {
			return errors.Join(err, r.udp.Close())
		}
		return nil
	})
	if err != nil {
		return netip.Addr{}, err
	}
	r.work.Go(r.serveUDP)
	r.work.Go(r.serveTCP)
	n.relay = r
	return addr, nil
}

func (r *relay) close() error {
	if r == nil {
		return nil
	}
	close(r.done)
	err := errors.Join(r.udp.Close(), r.tcp.Close())
	r.work.Wait()
	return err
}

// take waits for a slot, and reports whether there is still something to do.
func (r *relay) take() bool {
	select {
	case r.slots <- struct{}{}:
		return true
	case <-r.done:
		return false
	}
}

func (r *relay) serveUDP() {
	buf := make([]byte, relayMessage)
	for {
		size, from, err := r.udp.ReadFrom(buf)
		if err != nil || !r.take() {
			return // closed
		}
		question := append([]byte(nil), buf[:size]...)
		r.work.Go(func() {
			defer func() { <-r.slots }()
			for _, server := range r.servers {
				if answer, err := r.ask(server, question); err == nil {
					_, _ = r.udp.WriteTo(answer, from)
					return
				}
			}
		})
	}
}

// ask sends a question to a server and returns the answer.
func (r *relay) ask(server netip.AddrPort, question []byte) ([]byte, error) {
	conn, err := r.dial("udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, relayMessage)
	size, err := conn.Read(answer)
	return answer[:size], err
}

// dial connects to a server. The connection is closed with the relay, and gives up after relayTimeout.
func (r *relay) dial(kind string, server netip.AddrPort) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: relayTimeout}).Dial(kind, server.String())
	if err != nil {
		return nil, err
	}
	r.closeWith(conn)
	return conn, nil
}

// closeWith ends what is done with a connection when the relay ends, or takes too long.
func (r *relay) closeWith(conn net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), relayTimeout)
	go func() {
		defer cancel()
		select {
		case <-r.done:
		case <-ctx.Done():
		}
		_ = conn.SetDeadline(time.Unix(1, 0))
	}()
}

func (r *relay) serveTCP() {
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			return // closed
		}
		if !r.take() {
			conn.Close()
			return
		}
		r.closeWith(conn)
		r.work.Go(func() {
			defer func() { <-r.slots }()
			defer conn.Close()
			for _, server := range r.servers {
				if upstream, err := r.dial("tcp", server); err == nil {
					var copies sync.WaitGroup
					copies.Go(func() { _, _ = io.Copy(upstream, conn) })
					_, _ = io.Copy(conn, upstream)
					upstream.Close()
					_ = conn.SetDeadline(time.Unix(1, 0))
					copies.Wait()
					return
				}
			}
		})
	}
}
