package logs

import (
	"encoding/json"
	"io"
	"net/url"
)

// An output is the two streams of a reader. What goes to one is collected until something goes to the other, so that
// both can be one terminal.
type output struct {
	stdout, stderr io.Writer
	stream         Stream // of what is collected
	buf            []byte
	err            error
}

// begin returns what to append a record of a stream to; nil if nobody wants it, or if writing has failed.
func (o *output) begin(s Stream) *[]byte {
	if o.writer(s) == nil {
		return nil
	}
	if (s != o.stream || len(o.buf) >= 32<<10) && o.flush() != nil {
		return nil
	}
	o.stream = s
	return &o.buf
}

func (o *output) writer(s Stream) io.Writer {
	if s == Stderr {
		return o.stderr
	}
	return o.stdout
}

// flush writes what is collected.
func (o *output) flush() error {
	if len(o.buf) > 0 && o.err == nil {
		_, o.err = o.writer(o.stream).Write(o.buf)
	}
	o.buf = o.buf[:0]
	return o.err
}

// appendDetails appends attributes as docker shows them: key=value, in the order of the keys, escaped as in an address,
// with commas between and a space behind.
func appendDetails(dst, attrs []byte) []byte {
	var m map[string]string
	if len(attrs) > 0 && json.Unmarshal(attrs, &m) != nil {
		m = nil // not written by a log driver
	}
	for i, key := range sortedKeys(m) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, url.QueryEscape(key)+"="+url.QueryEscape(m[key])...)
	}
	return append(dst, ' ')
}
