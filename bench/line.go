package main

import (
	"net"
	"sync"
	"time"
)

// A line carries bytes between here and an address of this machine as one that is far away would.
type line struct {
	rtt  time.Duration
	rate int // bytes a second, of all connections together and either way; 0 is no limit

	mu   sync.Mutex // guards free
	free [2]time.Time
}

// take waits for nothing: it says when n bytes have come that are sent now.
func (l *line) take(way, n int) time.Time {
	now := time.Now()
	if l.rate == 0 {
		return now.Add(l.rtt / 2)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free[way].Before(now) {
		l.free[way] = now
	}
	l.free[way] = l.free[way].Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	return l.free[way].Add(l.rtt / 2)
}

// to is an address that leads to another over the line: a connection is made after a round trip.
func (l *line) to(address string) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				time.Sleep(l.rtt)
				far, err := net.Dial("tcp", address)
				if err != nil {
					_ = near.Close()
					return
				}
				go l.carry(far, near, 0)
				l.carry(near, far, 1)
			}()
		}
	}()
	return listener.Addr().String(), nil
}

// carry copies from src to dst, each piece when it has come.
func (l *line) carry(dst, src net.Conn, way int) {
	type piece struct {
		data []byte
		at   time.Time
	}
	const room = 64 // pieces on the way: more than the line holds
	pieces, free := make(chan piece, room), make(chan []byte, room+2)
	go func() {
		defer close(pieces)
		for {
			var buf []byte
			select {
			case buf = <-free:
			default:
				buf = make([]byte, 128<<10)
			}
			n, err := src.Read(buf)
			pieces <- piece{buf[:n], l.take(way, n)}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.at))
		if _, err := dst.Write(p.data); err != nil {
			break
		}
		select {
		case free <- p.data[:cap(p.data)]:
		default:
		}
	}
	if c, ok := dst.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
	for range pieces { // what comes after the end of the other side
	}
}
