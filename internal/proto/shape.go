package proto

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A form is how one value is written.
type form int

const (
	varint form = iota
	zigzag
	fixed // 4 or 8 bytes, by the type
	text
	raw
	nested
)

// A count is how many values a field has.
type count int

const (
	single   count = iota // left out when zero
	optional              // a pointer, left out when nil
	repeated              // one after the other, each with the field's number
	packed                // in one run of bytes
	mapped
)

// A field is one field of a struct.
type field struct {
	index  int // in the struct
	number int
	count  count
	form   form
	elem   reflect.Type // of one value; of a message the struct
	group  string       // the oneof that it belongs to
	entry  []field      // of a map: its key and its value
}

// wire is the wire type of one value, outside a packed run.
func (f *field) wire() int {
	switch {
	case f.form == varint || f.form == zigzag:
		return wireVarint
	case f.form == fixed && f.elem.Size() == 4:
		return wireFixed32
	case f.form == fixed:
		return wireFixed64
	}
	return wireBytes
}

// The wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireStart   = 3
	wireEnd     = 4
	wireFixed32 = 5
)

// maxNumber is the highest number that a field may have.
const maxNumber = 1<<29 - 1

// A shape is what a struct looks like as a message.
type shape struct {
	fields []field // by number
	oneofs bool
}

// find returns the field of a number, or nil. Fields mostly come in order: the search begins at hint.
func (s *shape) find(number, hint int) (f *field, at int) {
	for i := hint; i < len(s.fields) && s.fields[i].number <= number; i++ {
		if s.fields[i].number == number {
			return &s.fields[i], i
		}
	}
	i, ok := slices.BinarySearchFunc(s.fields, number, func(f field, n int) int { return cmp.Compare(f.number, n) })
	if !ok {
		return nil, hint
	}
	return &s.fields[i], i
}

// shape returns the shape of a struct.
func (c *Codec) shape(t reflect.Type) (*shape, error) {
	if s, ok := c.shapes.Load(t); ok {
		return s.(*shape), nil
	}
	s := &shape{}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("pb")
		if !ok {
			continue
		}
		f, err := parseField(sf.Type, tag)
		if err == nil && !sf.IsExported() {
			err = fmt.Errorf("is not exported")
		}
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", sf.Name, err)
		}
		f.index = i
		s.fields = append(s.fields, f)
		s.oneofs = s.oneofs || f.group != ""
	}
	slices.SortFunc(s.fields, func(a, b field) int { return cmp.Compare(a.number, b.number) })
	for i := 1; i < len(s.fields); i++ {
		if s.fields[i].number == s.fields[i-1].number {
			return nil, fmt.Errorf("field %d is there twice", s.fields[i].number)
		}
	}
	c.shapes.Store(t, s)
	return s, nil
}

// parseField reads the type and the tag of a field.
func parseField(t reflect.Type, tag string) (f field, err error) {
	number, options, _ := strings.Cut(tag, ",")
	if f.number, err = strconv.Atoi(number); err != nil || f.number < 1 || f.number > maxNumber {
		return f, fmt.Errorf("the tag %q does not begin with a number from 1 to %d", tag, maxNumber)
	}
	unpacked := false
	numbers := varint
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "":
		case "zigzag":
			numbers = zigzag
		case "fixed":
			numbers = fixed
		case "unpacked":
			unpacked = true
		case "oneof":
			f.group = value
		default:
			return f, fmt.Errorf("the tag %q has the unknown option %q", tag, option)
		}
	}
	f.elem = t
	switch {
	case t.Kind() == reflect.Pointer:
		f.count, f.elem = optional, t.Elem()
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		f.count, f.elem = repeated, t.Elem()
		if f.elem.Kind() == reflect.Pointer && f.elem.Elem().Kind() == reflect.Struct {
			f.elem = f.elem.Elem()
		}
	case t.Kind() == reflect.Map:
		f.count = mapped
		return f, f.parseMap(t)
	}
	if f.form, err = formOf(f.elem, numbers); err != nil {
		return f, err
	}
	if f.count == repeated && f.form <= fixed && !unpacked {
		f.count = packed
	}
	if f.group != "" && f.count != optional {
		return f, fmt.Errorf("the tag %q: a field of a oneof is a pointer", tag)
	}
	return f, nil
}

// parseMap reads the type of a map.
func (f *field) parseMap(t reflect.Type) error {
	key, err := parseField(t.Key(), "1")
	if err != nil {
		return err
	}
	if key.count != single || key.form != varint && key.form != text {
		return fmt.Errorf("a %s cannot be the key of a map", t.Key())
	}
	value, err := parseField(t.Elem(), "2")
	if err != nil {
		return err
	}
	if value.count != single && (value.count != optional || value.form != nested) {
		return fmt.Errorf("a %s cannot be the value of a map", t.Elem())
	}
	f.form, f.entry = nested, []field{key, value}
	return nil
}

// formOf returns how a value of a type is written; numbers is the form that the tag wants of whole numbers.
func formOf(t reflect.Type, numbers form) (form, error) {
	switch t.Kind() {
	case reflect.Bool:
		return varint, nil
	case reflect.Int32, reflect.Int64:
		return numbers, nil
	case reflect.Uint32, reflect.Uint64:
		if numbers != zigzag {
			return numbers, nil
		}
	case reflect.Float32, reflect.Float64:
		return fixed, nil
	case reflect.String:
		return text, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return raw, nil
		}
	case reflect.Struct:
		return nested, nil
	}
	return 0, fmt.Errorf("a %s cannot be written", t)
}
