// Package dns is a name server for one container. It answers for the names of a zone itself and asks other servers for the
// rest, whose answers it passes on as they are.
//
// What comes from a container is not trusted: the number of questions that wait for other servers is bounded, and so is the
// time they wait. The answers for names of the zone wait for nobody.
package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	timeout     = 4 * time.Second // for the answer of one server
	servers     = 3               // at most are asked, one after the other
	maxWaiting  = 64              // questions that wait for other servers
	maxConns    = 16              // by TCP at once
	idle        = 10 * time.Second
	messageSize = 65535 // bytes
	headerSize  = 12    // bytes
	udpSize     = 512   // bytes, of an answer by UDP to who has not said that it takes more
)

// A Zone knows names. Names are in lower case, without a dot at the end.
type Zone interface {
	// Addresses returns the addresses of a name, and whether there is such a name.
	Addresses(name string) ([]netip.Addr, bool)
	// Name returns the name of an address, and whether there is one.
	Name(address netip.Addr) (string, bool)
}

// A Server answers questions until it is closed.
type Server struct {
	zone     Zone
	upstream atomic.Pointer[[]netip.AddrPort]
	udp      *net.UDPConn
	tcp      *net.TCPListener
	ctx      context.Context // ends with the server
	cancel   context.CancelFunc
	waiting  chan struct{}
	conns    chan struct{}
	loops    sync.WaitGroup // one a socket
	work     sync.WaitGroup

	pausing sync.Mutex // held by Pause, and by Close: neither waits for loops that the other begins
	began   time.Time
	last    atomic.Int64 // when there was a question, in nanoseconds since began
}

// Serve answers what comes to two sockets, which Close closes.
func Serve(udp *net.UDPConn, tcp *net.TCPListener, zone Zone) *Server {
	s := &Server{
		zone: zone, udp: udp, tcp: tcp, waiting: make(chan struct{}, maxWaiting), conns: make(chan struct{}, maxConns), began: time.Now(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.serve()
	return s
}

func (s *Server) serve() {
	s.loops.Go(s.serveUDP)
	s.loops.Go(s.serveTCP)
}

// ErrBusy says that there are questions that are not answered, or were answered lately.
var ErrBusy = errors.New("the name server is in use")

// Pause calls do with the sockets of a server to whom no question has come for a time. Until do returns, questions wait in the
// sockets. The zone is asked for what is being answered when Pause is called, so the caller holds no lock that the zone takes.
func (s *Server) Pause(quiet time.Duration, do func(*net.UDPConn, *net.TCPListener) error) error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if s.quietFor() < quiet {
		return ErrBusy
	}
	s.setDeadlines(time.Unix(1, 0))
	s.loops.Wait()
	defer func() {
		s.setDeadlines(time.Time{})
		s.serve()
	}()
	if len(s.waiting) > 0 || len(s.conns) > 0 || s.quietFor() < quiet {
		return ErrBusy
	}
	return do(s.udp, s.tcp)
}

// asked notes that there is a question.
func (s *Server) asked() { s.last.Store(int64(time.Since(s.began))) }

// quietFor is how long there has been none.
func (s *Server) quietFor() time.Duration { return time.Since(s.began) - time.Duration(s.last.Load()) }

func (s *Server) setDeadlines(t time.Time) {
	_ = s.udp.SetReadDeadline(t)
	_ = s.tcp.SetDeadline(t)
}

// Ask sets the servers that are asked for names which the zone does not have. With none, there are no such names: the
// answer is an error.
func (s *Server) Ask(upstream []netip.AddrPort) {
	upstream = upstream[:min(len(upstream), servers)]
	s.upstream.Store(&upstream)
}

// Close stops the server.
func (s *Server) Close() error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	s.cancel()
	err := errors.Join(s.udp.Close(), s.tcp.Close())
	s.loops.Wait()
	s.work.Wait()
	return err
}

func (s *Server) serveUDP() {
	buf := make([]byte, messageSize/16) // questions are small
	for {
		size, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return // closed, or paused
		}
		s.asked()
		q, ok := parse(buf[:size])
		if !ok {
			continue // nothing to answer
		}
		if answer := s.own(q, udpSize); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
			continue
		}
		question := append([]byte(nil), buf[:size]...)
		if !s.wait(func() {
			_, _ = s.udp.WriteTo(s.forward("udp", q, question), from)
		}) {
			_, _ = s.udp.WriteTo(q.answer(dnsmessage.RCodeServerFailure, nil), from)
		}
	}
}

// wait calls f once there is a place for it, which there is at once or not at all.
func (s *Server) wait(f func()) bool {
	select {
	case s.waiting <- struct{}{}:
	default:
		return false
	}
	s.work.Go(func() {
		defer func() { <-s.waiting }()
		f()
	})
	return true
}

func (s *Server) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			time.Sleep(10 * time.Millisecond) // too many open files
			continue
		}
		s.asked()
		select {
		case s.conns <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		s.work.Go(func() {
			defer func() { <-s.conns }()
			defer conn.Close()
			defer context.AfterFunc(s.ctx, func() { conn.Close() })()
			for s.serveOne(conn) {
			}
		})
	}
}

// serveOne answers one question by TCP and reports whether there may be another one.
func (s *Server) serveOne(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(idle))
	question, err := readTCP(conn)
	if err != nil {
		return false
	}
	q, ok := parse(question)
	if !ok {
		return false
	}
	_ = conn.SetDeadline(time.Now().Add(idle + servers*timeout))
	answer := s.own(q, messageSize)
	if answer == nil {
		answer = s.forward("tcp", q, question)
	}
	return writeTCP(conn, answer) == nil
}

// readTCP reads a message, in front of which stands its length.
func readTCP(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeTCP(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}

// forward asks other servers, each once, and returns the first answer, or that there is none. A server that cannot or will not answer
// counts only if no other one does.
func (s *Server) forward(kind string, q question, message []byte) (refusal []byte) {
	if list := s.upstream.Load(); list != nil {
		for _, server := range *list {
			answer, err := s.ask(kind, server, message)
			switch {
			case err != nil || len(answer) < headerSize:
			case !refuses(answer):
				return answer
			case refusal == nil:
				refusal = answer
			}
		}
	}
	if refusal != nil {
		return refusal
	}
	return q.answer(dnsmessage.RCodeServerFailure, nil)
}

// refuses reports whether an answer says nothing of the name.
func refuses(answer []byte) bool {
	code := dnsmessage.RCode(answer[3] & 0xf)
	return code == dnsmessage.RCodeServerFailure || code == dnsmessage.RCodeNotImplemented || code == dnsmessage.RCodeRefused
}

// ask sends a question to one server and returns its answer.
func (s *Server) ask(kind string, server netip.AddrPort, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, kind, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if kind == "tcp" {
		if err := writeTCP(conn, message); err != nil {
			return nil, err
		}
		return readTCP(conn)
	}
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	for answer := make([]byte, messageSize); ; {
		size, err := conn.Read(answer)
		if err != nil {
			return nil, err
		}
		// What does not belong to the question comes from somebody else, or too late.
		if size >= 2 && [2]byte(answer) == [2]byte(message) {
			return answer[:size], nil
		}
	}
}
