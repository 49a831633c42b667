package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// A Stream is one of the two that a process writes to.
type Stream uint8

// The streams have the numbers of their descriptors.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String is the name of a stream in a record.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// appendRecord appends a line of the log, byte for byte as docker writes it. The attributes are a JSON object or "".
func appendRecord(dst, text []byte, s Stream, attrs string, stamp []byte) []byte {
	dst = append(dst, `{"log":"`...)
	dst = appendEscaped(dst, text)
	dst = append(dst, `","stream":"`...)
	dst = append(dst, s.String()...)
	if attrs != "" {
		dst = append(dst, `","attrs":`...)
		dst = append(dst, attrs...)
		dst = append(dst, `,"time":"`...)
	} else {
		dst = append(dst, `","time":"`...)
	}
	dst = append(dst, stamp...)
	return append(dst, "\"}\n"...)
}

// special reports whether a JSON string of docker's log does not hold an ASCII character as it is.
func special(c byte) bool {
	return c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&'
}

// plain is how many of eight characters, from the first on, are ASCII and not special.
func plain(text []byte) int {
	const ones = 0x0101010101010101
	x := binary.LittleEndian.Uint64(text)
	// The highest bit of a byte says that it was zero. It may be wrong in bytes behind such a one, which do not matter.
	zero := func(y uint64) uint64 { return (y - ones) &^ y }
	y := x | (x-ones*' ')&^x | zero(x^ones*'\\') |
		zero((x|ones*4)^ones*'&') | // or a quote, which is the same without the bit 4
		zero((x|ones*2)^ones*'>') // or <, which is the same without the bit 2
	return bits.TrailingZeros64(y&(ones*0x80)) / 8
}

// appendEscaped appends text as the inside of a JSON string. It is what encoding/json does, with one difference that
// docker has: tab, backspace and form feed have no short form.
func appendEscaped(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	begin := 0
	for i := 0; i < len(text); {
		if i+8 <= len(text) {
			n := plain(text[i:])
			if i += n; n == 8 {
				continue
			}
		}
		c := text[i]
		if c < utf8.RuneSelf {
			if !special(c) {
				i++
				continue
			}
			dst = append(dst, text[begin:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			begin = i
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(append(dst, text[begin:i]...), `\ufffd`...)
			begin = i + n
		case r == '\u2028' || r == '\u2029': // ends of lines in JavaScript
			dst = append(append(dst, text[begin:i]...), '\\', 'u', '2', '0', '2', hex[r&15])
			begin = i + n
		}
		i += n
	}
	return append(dst, text[begin:]...)
}

// A record is a line of the log. Its slices belong to the decoder and to the line that it was read from.
type record struct {
	text   []byte
	stream Stream
	attrs  []byte // a JSON object; empty if there is none
	stamp  []byte // RFC 3339
}

// A decoder reads lines of the log, and keeps the space for the text.
type decoder struct{ text []byte }

// decode reads a line without its "\n". It reports whether it was a record.
func (d *decoder) decode(line []byte) (record, bool) {
	if r, ok := d.fast(line); ok {
		return r, true
	}
	var other struct {
		Log, Stream, Time string
		Attrs             json.RawMessage
	}
	if json.Unmarshal(line, &other) != nil || other.Time == "" {
		return record{}, false
	}
	r := record{text: []byte(other.Log), stream: Stdout, attrs: other.Attrs, stamp: []byte(other.Time)}
	if other.Stream == Stderr.String() {
		r.stream = Stderr
	}
	return r, true
}

// fast reads what appendRecord has written. It gives up where anything is different.
func (d *decoder) fast(line []byte) (r record, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return r, false
	}
	if rest, ok = d.unescape(rest); !ok {
		return r, false
	}
	r.text, r.stream = d.text, Stdout
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"stream":"std`)); !ok || len(rest) < len(`out"`) {
		return r, false
	}
	switch string(rest[:4]) {
	case `out"`:
	case `err"`:
		r.stream = Stderr
	default:
		return r, false
	}
	rest = rest[4:]
	if after, found := bytes.CutPrefix(rest, []byte(`,"attrs":`)); found {
		i := bytes.LastIndex(after, []byte(`},"time":"`))
		if i < 0 {
			return r, false
		}
		r.attrs, rest = after[:i+1], after[i+1:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"time":"`)); !ok {
		return r, false
	}
	r.stamp, ok = bytes.CutSuffix(rest, []byte(`"}`))
	return r, ok && bytes.IndexByte(r.stamp, '"') < 0
}

// unescape reads the inside of a JSON string into d.text, and returns what follows its closing quote.
func (d *decoder) unescape(s []byte) (rest []byte, ok bool) {
	d.text = d.text[:0]
	quote := bytes.IndexByte(s, '"')
	for quote >= 0 {
		i := bytes.IndexByte(s[:quote], '\\')
		if i < 0 {
			d.text = append(d.text, s[:quote]...)
			return s[quote+1:], true
		}
		d.text = append(d.text, s[:i]...)
		n := d.escape(s[i:])
		if n == 0 {
			return nil, false
		}
		s = s[i+n:]
		if quote -= i + n; quote < 0 { // it was escaped
			quote = bytes.IndexByte(s, '"')
		}
	}
	return nil, false
}

// escape reads one escape sequence of those that appendEscaped writes, and returns its length; 0 if it is another one.
func (d *decoder) escape(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch c := s[1]; c {
	case 'n':
		d.text = append(d.text, '\n')
	case 'r':
		d.text = append(d.text, '\r')
	case 't':
		d.text = append(d.text, '\t')
	case '"', '\\':
		d.text = append(d.text, c)
	case 'u':
		if len(s) < 6 {
			return 0
		}
		r, err := strconv.ParseUint(string(s[2:6]), 16, 16)
		if err != nil || r >= 0xd800 && r < 0xe000 { // half of a pair: for encoding/json
			return 0
		}
		d.text = utf8.AppendRune(d.text, rune(r))
		return 6
	default:
		return 0
	}
	return 2
}
