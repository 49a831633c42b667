// Package proto codes plain Go structs as protocol buffers.
//
// A field of a message is an exported field with a tag that holds its number:
//
//	type Digest struct {
//		Hash string `pb:"1"`
//		Size int64  `pb:"2"`
//	}
//
// Fields without the tag are left alone. The Go type says how the field is coded:
//
//	bool, int32, int64, uint32, uint64   varint; "3,zigzag" is sint32 and sint64, "3,fixed" is fixed32, sfixed64 and so on
//	float32, float64                     float, double
//	string, []byte                       string (which must be UTF-8), bytes
//	*T of a struct, or T                 a message; T is left out where it is the zero value
//	*T of any other                      a field that knows whether it is set: optional, or with "3,oneof=name" one of several
//	[]T                                  repeated; numbers are packed unless the tag says "3,unpacked"; both forms are read
//	map[K]V                              a map
//
// An enum is a named int32. The form is that of proto3: a field that is not a pointer is left out where it is zero.
//
// The output is the same for equal messages: fields in the order of their numbers, keys of maps sorted. It is the same as that of
// google.golang.org/protobuf with Deterministic set, which matters where a digest is taken of a message. Fields that a struct does
// not have are skipped when it is read, and lost.
package proto

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// maxDepth is how deep messages may be nested in each other.
const maxDepth = 100

// Memory that a message may take when it is read: its length in bytes times memoryFactor, and memoryFree in any case. It keeps a
// short text of many empty messages from filling the machine.
const (
	memoryFactor = 16
	memoryFree   = 1 << 20
)

var errDepth = fmt.Errorf("messages are nested more than %d deep", maxDepth)

// A Codec writes and reads messages. It remembers what it has learnt of their types. The zero value is ready. It is safe for concurrent use.
type Codec struct {
	shapes sync.Map // reflect.Type of a struct → *shape
}

// Marshal returns the coded form of a message, which is a struct or a pointer to one. Tags that do not fit their fields, strings that are not UTF-8, and
// messages nested more than 100 deep are errors.
func (c *Codec) Marshal(message any) ([]byte, error) { return c.Append(nil, message) }

// Append adds the coded form of a message to b.
func (c *Codec) Append(b []byte, message any) ([]byte, error) {
	v := reflect.ValueOf(message)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return b, fmt.Errorf("proto: a %T is no message", message)
	}
	b, err := c.message(b, v, maxDepth)
	if err != nil {
		return b, fmt.Errorf("proto: %s: %w", v.Type().Name(), err)
	}
	return b, nil
}

// Unmarshal reads b into the struct that message points to, which is cleared first. What is kept of b is copied. Input that is broken, nested more than 100
// deep, or would take memory out of proportion to its length is an error.
func (c *Codec) Unmarshal(b []byte, message any) error {
	v := reflect.ValueOf(message)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("proto: a %T is no pointer to a message", message)
	}
	v = v.Elem()
	v.SetZero()
	d := decoder{codec: c, memory: memoryFactor*len(b) + memoryFree}
	if err := d.message(b, v, maxDepth); err != nil {
		return fmt.Errorf("proto: %s: %w", v.Type().Name(), err)
	}
	return nil
}

var (
	errCut    = errors.New("is cut short")
	errVarint = errors.New("has a number of more than 64 bits")
	errUTF8   = errors.New("is not UTF-8")
	errGroup  = errors.New("has a group that does not end where it should")
)
