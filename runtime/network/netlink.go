package network

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	ack          = unix.NLM_F_ACK
	attrTypeMask = 0x3fff // of an attribute's type; the rest are flags
)

// A request is a netlink message being written: what the kernel's structs look like, attribute by attribute.
type request struct {
	what     string // for errors
	buf      []byte
	optional bool // an error is none
}

// newRequest begins a message of a type, whose fixed part is header.
func newRequest(what string, typ uint16, flags uint16, header ...byte) *request {
	r := &request{what: what, buf: make([]byte, unix.SizeofNlMsghdr, 256)}
	binary.NativeEndian.PutUint16(r.buf[4:], typ)
	binary.NativeEndian.PutUint16(r.buf[6:], flags|unix.NLM_F_REQUEST)
	r.buf = append(r.buf, header...)
	return r
}

// attr adds an attribute.
func (r *request) attr(typ uint16, value []byte) *request {
	r.buf = binary.NativeEndian.AppendUint16(r.buf, uint16(4+len(value)))
	r.buf = binary.NativeEndian.AppendUint16(r.buf, typ)
	r.buf = append(r.buf, value...)
	for len(r.buf)%4 != 0 {
		r.buf = append(r.buf, 0)
	}
	return r
}

func (r *request) str(typ uint16, s string) *request { return r.attr(typ, append([]byte(s), 0)) }

func (r *request) uint32(typ uint16, n uint32) *request {
	return r.attr(typ, binary.NativeEndian.AppendUint32(nil, n))
}

// big adds a number as netfilter wants them.
func (r *request) big(typ uint16, n uint32) *request {
	return r.attr(typ, binary.BigEndian.AppendUint32(nil, n))
}

// nest adds an attribute made of others.
func (r *request) nest(typ uint16, fill func()) *request {
	at := len(r.buf)
	r.attr(typ|unix.NLA_F_NESTED, nil)
	fill()
	binary.NativeEndian.PutUint16(r.buf[at:], uint16(len(r.buf)-at))
	return r
}

// A conn is a netlink socket, of the network namespace its thread was in.
type conn struct{ fd int }

func dial(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink bind", err)
	}
	// The kernel answers at once; what it does not answer must not hang us.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink timeout", err)
	}
	// An error is answered without the request that it is about, which may be long. A kernel that cannot do that says less clearly why.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &conn{fd}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// makeRoom has the kernel take a message of a size, and keep the answers to some requests. Without the right to it there is the usual
// room, or what this machine allows.
func (c *conn) makeRoom(size, answers int) {
	const usual, more, answer = 64 << 10, 16 << 10, 1 << 10
	for _, o := range []struct{ force, ask, size int }{
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, size + more},
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, answers*answer + more},
	} {
		if o.size > usual && unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, o.force, o.size) != nil {
			_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, o.ask, o.size)
		}
	}
}

// do sends requests in one message and waits until each that asks for it is answered. The first error counts.
func (c *conn) do(requests ...*request) error {
	var buf []byte
	waiting := map[uint32]*request{}
	for i, r := range requests {
		binary.NativeEndian.PutUint32(r.buf, uint32(len(r.buf)))
		binary.NativeEndian.PutUint32(r.buf[8:], uint32(i+1))
		if binary.NativeEndian.Uint16(r.buf[6:])&unix.NLM_F_ACK != 0 {
			waiting[uint32(i+1)] = r
		}
		buf = append(buf, r.buf...)
	}
	c.makeRoom(len(buf), len(waiting))
	if err := unix.Sendto(c.fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("%s: %w", requests[0].what, err)
	}
	var first error
	answer := make([]byte, 8192)
	for len(waiting) > 0 {
		n, _, err := unix.Recvfrom(c.fd, answer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", requests[0].what, err)
		}
		for b := answer[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return fmt.Errorf("%s: netlink message of %d bytes", requests[0].what, size)
			}
			seq := binary.NativeEndian.Uint32(b[8:])
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
				r := waiting[seq]
				if errno != 0 && first == nil && (r == nil || !r.optional) {
					what := requests[0].what
					if r != nil {
						what = r.what
					}
					first = fmt.Errorf("%s: %w", what, errno)
				}
				delete(waiting, seq)
				if errno != 0 && r == nil { // of a batch's frame: there will be no other answers
					return first
				}
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
	return first
}

// attributes reads those of a message, by type.
func attributes(b []byte) map[uint16][]byte {
	m := map[uint16][]byte{}
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			break
		}
		m[binary.NativeEndian.Uint16(b[2:])&attrTypeMask] = b[unix.SizeofNlAttr:size]
		b = b[min(len(b), (size+3)&^3):]
	}
	return m
}

// dump sends a request that is answered by messages and a last one, and calls each with what follows their headers.
func (c *conn) dump(r *request, each func(message []byte)) error {
	binary.NativeEndian.PutUint32(r.buf, uint32(len(r.buf)))
	if err := unix.Sendto(c.fd, r.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("%s: %w", r.what, err)
	}
	for answer := make([]byte, 1<<16); ; {
		n, _, err := unix.Recvfrom(c.fd, answer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.what, err)
		}
		for b := answer[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return fmt.Errorf("%s: netlink message of %d bytes", r.what, size)
			}
			body := b[unix.SizeofNlMsghdr:size]
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if len(body) < 4 {
					return fmt.Errorf("%s: short error", r.what)
				}
				if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body))); errno != 0 {
					return fmt.Errorf("%s: %w", r.what, errno)
				}
				return nil
			default:
				each(body)
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}
