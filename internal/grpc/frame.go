package grpc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"

	"github.com/forge-build/forge/internal/proto"
)

// frameHead is the length of what stands before a message: a byte that says whether it is compressed, and its length.
const frameHead = 5

// appendFrame adds a message with its head to b.
func appendFrame(b []byte, codec *proto.Codec, message any) ([]byte, error) {
	at := len(b)
	b, err := codec.Append(append(b, make([]byte, frameHead)...), message)
	if err != nil {
		return b, &Error{Code: Internal, Message: err.Error()}
	}
	if uint64(len(b)-at-frameHead) > 1<<32-1 {
		return b, Errorf(ResourceExhausted, "a message of %d bytes is longer than the protocol can say", len(b)-at-frameHead)
	}
	binary.BigEndian.PutUint32(b[at+1:], uint32(len(b)-at-frameHead))
	return b, nil
}

// A frameReader reads messages from the body of a request or an answer.
type frameReader struct {
	codec    *proto.Codec
	body     io.Reader
	max      int    // bytes of one message
	encoding string // that compressed messages have
}

// read reads the next message. At the end of the body it returns io.EOF.
func (r *frameReader) read(message any) error {
	var head [frameHead]byte
	switch _, err := io.ReadFull(r.body, head[:]); {
	case err == io.ErrUnexpectedEOF:
		return Errorf(Internal, "the stream ends in the head of a message")
	case err != nil:
		return err
	}
	size := uint64(binary.BigEndian.Uint32(head[1:]))
	if size > uint64(r.max) {
		return Errorf(ResourceExhausted, "the message has %d bytes, more than the %d allowed", size, r.max)
	}
	text, err := readExactly(r.body, int(size))
	switch {
	case err == io.ErrUnexpectedEOF:
		return Errorf(Internal, "the stream ends in a message of %d bytes", size)
	case err != nil:
		return err
	}
	switch head[0] {
	case 0:
	case 1:
		if text, err = r.inflate(text); err != nil {
			return err
		}
	default:
		return Errorf(Internal, "the head of a message begins with %d", head[0])
	}
	if err := r.codec.Unmarshal(text, message); err != nil {
		return &Error{Code: Internal, Message: err.Error()}
	}
	return nil
}

// readExactly reads size bytes. It takes memory as they arrive, not as they are announced. Where there are fewer it returns io.ErrUnexpectedEOF.
func readExactly(r io.Reader, size int) ([]byte, error) {
	const atOnce = 64 << 10
	if size <= atOnce {
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, unexpected(err)
		}
		return b, nil
	}
	var b bytes.Buffer
	b.Grow(atOnce)
	if _, err := io.CopyN(&b, r, int64(size)); err != nil {
		return nil, unexpected(err)
	}
	return b.Bytes(), nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// inflate returns a compressed message as it was.
func (r *frameReader) inflate(b []byte) ([]byte, error) {
	if r.encoding != "gzip" {
		return nil, Errorf(Unimplemented, "a message is compressed as %q; gzip can be read", r.encoding)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, Errorf(Internal, "a compressed message: %v", err)
	}
	b, err = io.ReadAll(io.LimitReader(z, int64(r.max)+1))
	switch {
	case err != nil:
		return nil, Errorf(Internal, "a compressed message: %v", err)
	case len(b) > r.max:
		return nil, Errorf(ResourceExhausted, "a compressed message has more than the %d bytes allowed", r.max)
	}
	return b, nil
}
