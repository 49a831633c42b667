package proto

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"unicode/utf8"
)

// message adds the fields of a struct to b.
func (c *Codec) message(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth == 0 {
		return b, errDepth
	}
	s, err := c.shape(v.Type())
	if err != nil {
		return b, err
	}
	if s.oneofs {
		if err := s.checkOneofs(v); err != nil {
			return b, err
		}
	}
	for i := range s.fields {
		f := &s.fields[i]
		if b, err = c.field(b, f, v.Field(f.index), depth); err != nil {
			return b, fmt.Errorf("field %d: %w", f.number, err)
		}
	}
	return b, nil
}

// checkOneofs makes sure that of the fields of a oneof one at most is set.
func (s *shape) checkOneofs(v reflect.Value) error {
	for i := range s.fields {
		f := &s.fields[i]
		if f.group == "" || v.Field(f.index).IsNil() {
			continue
		}
		for j := range s.fields[:i] {
			if g := &s.fields[j]; g.group == f.group && !v.Field(g.index).IsNil() {
				return fmt.Errorf("fields %d and %d are both set, which are one of %s", g.number, f.number, f.group)
			}
		}
	}
	return nil
}

// field adds a field of a struct to b, if it is there.
func (c *Codec) field(b []byte, f *field, v reflect.Value, depth int) ([]byte, error) {
	switch f.count {
	case single:
		if isZero(v) {
			return b, nil
		}
		return c.value(b, f, v, depth)
	case optional:
		if v.IsNil() {
			return b, nil
		}
		return c.value(b, f, v.Elem(), depth)
	case mapped:
		return c.entries(b, f, v, depth)
	case packed:
		if v.Len() == 0 {
			return b, nil
		}
		b, at := open(appendTag(b, f.number, wireBytes))
		for i := range v.Len() {
			b = f.appendNumber(b, v.Index(i))
		}
		return shut(b, at), nil
	}
	for i := range v.Len() {
		e := v.Index(i)
		if e.Kind() == reflect.Pointer {
			if e.IsNil() { // in a list, nothing is an empty message
				b = append(appendTag(b, f.number, wireBytes), 0)
				continue
			}
			e = e.Elem()
		}
		var err error
		if b, err = c.value(b, f, e, depth); err != nil {
			return b, err
		}
	}
	return b, nil
}

// isZero says whether proto3 leaves a value out. A float that is negative zero is written.
func isZero(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(v.Float()) == 0
	}
	return v.IsZero()
}

// entries adds a map to b, sorted by key. Both fields of an entry are written even where they are zero.
func (c *Codec) entries(b []byte, f *field, v reflect.Value, depth int) ([]byte, error) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch {
		case a.Kind() == reflect.String:
			return cmp.Compare(a.String(), b.String())
		case a.Kind() == reflect.Bool:
			return bits.Len64(number(a)) - bits.Len64(number(b))
		case a.CanInt():
			return cmp.Compare(a.Int(), b.Int())
		}
		return cmp.Compare(a.Uint(), b.Uint())
	})
	for _, k := range keys {
		var at int
		b, at = open(appendTag(b, f.number, wireBytes))
		var err error
		if b, err = c.value(b, &f.entry[0], k, depth); err != nil {
			return b, err
		}
		e := v.MapIndex(k)
		if e.Kind() == reflect.Pointer {
			if e.IsNil() {
				return b, fmt.Errorf("the key %v has no message", k)
			}
			e = e.Elem()
		}
		if b, err = c.value(b, &f.entry[1], e, depth); err != nil {
			return b, err
		}
		b = shut(b, at)
	}
	return b, nil
}

// value adds the number of a field and one value to b.
func (c *Codec) value(b []byte, f *field, v reflect.Value, depth int) ([]byte, error) {
	b = appendTag(b, f.number, f.wire())
	switch f.form {
	case text:
		s := v.String()
		if !utf8.ValidString(s) {
			return b, fmt.Errorf("%q %w", s, errUTF8)
		}
		return append(binary.AppendUvarint(b, uint64(len(s))), s...), nil
	case raw:
		return append(binary.AppendUvarint(b, uint64(v.Len())), v.Bytes()...), nil
	case nested:
		b, at := open(b)
		b, err := c.message(b, v, depth-1)
		if err != nil {
			return b, err
		}
		return shut(b, at), nil
	}
	return f.appendNumber(b, v), nil
}

// appendNumber adds a number in the form of its field to b.
func (f *field) appendNumber(b []byte, v reflect.Value) []byte {
	n := number(v)
	switch {
	case f.form == varint:
		return binary.AppendUvarint(b, n)
	case f.form == zigzag:
		return binary.AppendUvarint(b, n<<1^uint64(int64(n)>>63))
	case f.elem.Size() == 4:
		return binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return binary.LittleEndian.AppendUint64(b, n)
}

// number returns a number, or the bits of it, with its sign spread over all 64 bits.
func number(v reflect.Value) uint64 {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return 1
		}
		return 0
	case reflect.Int32, reflect.Int64:
		return uint64(v.Int())
	case reflect.Float32:
		return uint64(math.Float32bits(float32(v.Float())))
	case reflect.Float64:
		return math.Float64bits(v.Float())
	}
	return v.Uint()
}

func appendTag(b []byte, number, wire int) []byte {
	return binary.AppendUvarint(b, uint64(number)<<3|uint64(wire))
}

// open makes room in b for the length of what follows: one byte, which is enough for most.
func open(b []byte) (opened []byte, at int) { return append(b, 0), len(b) }

// shut writes the length of what follows the room at.
func shut(b []byte, at int) []byte {
	var room [binary.MaxVarintLen64]byte
	length := binary.AppendUvarint(room[:0], uint64(len(b)-at-1))
	b = slices.Insert(b, at, length[1:]...)
	copy(b[at:], length)
	return b
}
