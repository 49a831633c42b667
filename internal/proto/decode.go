package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"unicode/utf8"
)

// A decoder reads one message and those in it.
type decoder struct {
	codec  *Codec
	memory int // that may still be taken
}

// message reads b into a struct.
func (d *decoder) message(b []byte, v reflect.Value, depth int) error {
	if depth == 0 {
		return errDepth
	}
	s, err := d.codec.shape(v.Type())
	if err != nil {
		return err
	}
	at := 0
	for len(b) > 0 {
		number, wire, n, err := readTag(b)
		if err != nil {
			return err
		}
		b = b[n:]
		var f *field
		f, at = s.find(number, at)
		if f == nil || !f.takes(wire) {
			if n, err = skip(b, number, wire, maxDepth); err != nil {
				return fmt.Errorf("field %d: %w", number, err)
			}
			b = b[n:]
			continue
		}
		if f.group != "" {
			s.clearOthers(v, f)
		}
		if n, err = d.field(b, f, v.Field(f.index), wire, depth); err != nil {
			return fmt.Errorf("field %d: %w", number, err)
		}
		b = b[n:]
	}
	return nil
}

// takes says whether a value of a wire type is one of the field. What is not counts as an unknown field.
func (f *field) takes(wire int) bool {
	if f.count == mapped {
		return wire == wireBytes
	}
	return wire == f.wire() || wire == wireBytes && (f.count == packed || f.count == repeated) && f.form <= fixed
}

// clearOthers unsets the other fields of the oneof that f is of: the last on the wire counts.
func (s *shape) clearOthers(v reflect.Value, f *field) {
	for i := range s.fields {
		if g := &s.fields[i]; g.group == f.group && g != f {
			v.Field(g.index).SetZero()
		}
	}
}

// field reads one occurrence of a field, which begins b, and returns its length.
func (d *decoder) field(b []byte, f *field, v reflect.Value, wire, depth int) (int, error) {
	switch f.count {
	case single:
		return d.value(b, f, v, depth)
	case optional:
		if v.IsNil() {
			if err := d.take(f.elem); err != nil {
				return 0, err
			}
			v.Set(reflect.New(f.elem))
		}
		return d.value(b, f, v.Elem(), depth)
	case mapped:
		return d.entry(b, f, v, depth)
	}
	if wire == wireBytes && f.form <= fixed {
		run, n, err := readBytes(b)
		for len(run) > 0 && err == nil {
			var used int
			used, err = d.element(run, f, v, depth)
			run = run[used:]
		}
		return n, err
	}
	return d.element(b, f, v, depth)
}

// element reads one value, which begins b, to the end of a list.
func (d *decoder) element(b []byte, f *field, v reflect.Value, depth int) (int, error) {
	if err := d.take(f.elem); err != nil {
		return 0, err
	}
	i := v.Len()
	if i == v.Cap() {
		v.Grow(1)
	}
	v.SetLen(i + 1)
	e := v.Index(i)
	e.SetZero()
	if e.Kind() == reflect.Pointer {
		e.Set(reflect.New(f.elem))
		e = e.Elem()
	}
	return d.value(b, f, e, depth)
}

// entry reads one entry of a map, which begins b. The last of a key counts.
func (d *decoder) entry(b []byte, f *field, v reflect.Value, depth int) (int, error) {
	run, length, err := readBytes(b)
	if err != nil {
		return 0, err
	}
	if depth == 1 {
		return 0, errDepth
	}
	key, value := &f.entry[0], &f.entry[1]
	if err := d.take(v.Type().Key()); err != nil {
		return 0, err
	}
	k, e := reflect.New(key.elem).Elem(), reflect.New(value.elem).Elem()
	if err := d.take(value.elem); err != nil {
		return 0, err
	}
	for len(run) > 0 {
		number, wire, n, err := readTag(run)
		if err != nil {
			return 0, err
		}
		run = run[n:]
		switch {
		case number == 1 && wire == key.wire():
			n, err = d.value(run, key, k, depth)
		case number == 2 && wire == value.wire():
			n, err = d.value(run, value, e, depth)
		default:
			n, err = skip(run, number, wire, maxDepth)
		}
		if err != nil {
			return 0, err
		}
		run = run[n:]
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	if value.count == optional {
		e = e.Addr()
	}
	v.SetMapIndex(k, e)
	return length, nil
}

// take counts the memory of one more value.
func (d *decoder) take(t reflect.Type) error {
	if d.memory -= int(t.Size()); d.memory < 0 {
		return errors.New("takes memory out of proportion to its length")
	}
	return nil
}

// value reads one value, which begins b, into v, and returns its length.
func (d *decoder) value(b []byte, f *field, v reflect.Value, depth int) (n int, err error) {
	var run []byte
	switch f.form {
	case text, raw, nested:
		if run, n, err = readBytes(b); err != nil {
			return 0, err
		}
	}
	switch f.form {
	case text:
		if !utf8.Valid(run) {
			return 0, fmt.Errorf("%q %w", run, errUTF8)
		}
		v.SetString(string(run))
		return n, nil
	case raw:
		v.SetBytes(append(make([]byte, 0, len(run)), run...))
		return n, nil
	case nested:
		return n, d.message(run, v, depth-1)
	}
	u, n, err := f.readNumber(b)
	if err == nil {
		setNumber(v, u)
	}
	return n, err
}

// readNumber reads a number in the form of its field from the beginning of b.
func (f *field) readNumber(b []byte) (u uint64, n int, err error) {
	switch {
	case f.form != fixed:
		u, n, err = readVarint(b)
		if f.form == zigzag {
			if f.elem.Size() == 4 {
				u = uint64(uint32(u))
			}
			u = u>>1 ^ -(u & 1)
		}
		return u, n, err
	case f.elem.Size() == 4 && len(b) >= 4:
		return uint64(binary.LittleEndian.Uint32(b)), 4, nil
	case f.elem.Size() == 8 && len(b) >= 8:
		return binary.LittleEndian.Uint64(b), 8, nil
	}
	return 0, 0, errCut
}

// setNumber sets v to a number, or to what the bits of it mean. A number that is too long loses its upper half, as the reference says.
func setNumber(v reflect.Value, u uint64) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(u != 0)
	case reflect.Int32:
		v.SetInt(int64(int32(u)))
	case reflect.Int64:
		v.SetInt(int64(u))
	case reflect.Uint32:
		v.SetUint(uint64(uint32(u)))
	case reflect.Uint64:
		v.SetUint(u)
	case reflect.Float32:
		v.SetFloat(float64(math.Float32frombits(uint32(u))))
	case reflect.Float64:
		v.SetFloat(math.Float64frombits(u))
	}
}
