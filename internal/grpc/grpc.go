// Package grpc speaks gRPC, as client and as server, over the HTTP/2 of net/http.
//
// A [Client] makes calls: Invoke where one message is answered by one, Start where either side sends several. A [Server] is an
// http.Handler with a function for each method. Either also works over one given connection, whoever has opened it: [Over] and
// [Server.ServeConn]; so a connection that was taken over from HTTP/1.1 may carry calls in either direction.
//
// Messages are structs of package internal/proto. Nothing is tried twice: who calls knows what may be repeated. A call that fails
// does so with an [*Error].
//
// The protocol is described in https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
package grpc

import (
	"context"
	"errors"
	"fmt"
)

// A Code says how a call ended.
type Code int32

// The codes, with their numbers on the wire.
const (
	OK Code = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// String returns the code's name, as the specification writes it in errors.
func (c Code) String() string {
	names := [...]string{
		"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
		"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
	}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("Code(%d)", int32(c))
	}
	return names[c]
}

// An Error is the status of a call that failed. As a message it is google.rpc.Status.
type Error struct {
	Code    Code     `pb:"1"`
	Message string   `pb:"2"`
	Details []Detail `pb:"3"`
}

// A Detail tells more of an error, as a message of a named type (google.protobuf.Any).
type Detail struct {
	Type  string `pb:"1"` // such as type.googleapis.com/google.rpc.PreconditionFailure
	Value []byte `pb:"2"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Message
}

// Errorf makes an [*Error].
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// StatusOf returns err as a status: nil for none, the [*Error] in its chain, Canceled and DeadlineExceeded for the errors of contexts, and else Unknown.
func StatusOf(err error) *Error {
	var status *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return status
	case errors.Is(err, context.Canceled):
		return &Error{Code: Canceled, Message: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: DeadlineExceeded, Message: err.Error()}
	}
	return &Error{Code: Unknown, Message: err.Error()}
}

// CodeOf returns the code of an error, as [StatusOf] knows it.
func CodeOf(err error) Code {
	if status := StatusOf(err); status != nil {
		return status.Code
	}
	return OK
}

// Metadata goes with a call before its first message, and back with the answer. Names are lower-case. The values of names that end in -bin are any
// bytes; others hold printable ASCII. Names that begin with grpc- belong to the protocol.
type Metadata map[string][]string

// Get returns the first value of a name, or "".
func (m Metadata) Get(name string) string {
	if v := m[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// DefaultMaxMessage is how many bytes a received message may have where nothing else is said: what other implementations allow.
const DefaultMaxMessage = 4 << 20
