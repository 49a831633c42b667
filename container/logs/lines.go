package logs

import (
	"bytes"
	"io"
)

// maxLine is the longest line that a reader looks at: a record of 16 KiB, each byte of it escaped, and its attributes.
// What is longer is not a record.
const maxLine = 4 << 20

// lines cuts a stream that may grow into lines.
type lines struct {
	from       io.Reader
	buf        []byte
	begin, end int   // of what was read and is in no line yet
	read       int64 // bytes, altogether
	long       bool  // in the middle of a line that is too long
}

// next returns the next line without its "\n", to be used until the next call. It is io.EOF where no whole line has come
// yet, and may be called again. A line that is too long comes as an empty one.
func (l *lines) next() ([]byte, error) {
	looked := l.begin
	for {
		if i := bytes.IndexByte(l.buf[looked:l.end], '\n'); i >= 0 {
			line := l.buf[l.begin : looked+i]
			if l.begin = looked + i + 1; l.long {
				l.long, line = false, nil
			}
			return line, nil
		}
		l.room()
		looked = l.end
		n, err := l.from.Read(l.buf[l.end:])
		l.end += n
		l.read += int64(n)
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// room makes room to read into.
func (l *lines) room() {
	switch held := l.end - l.begin; {
	case l.end < len(l.buf):
		return
	case held >= maxLine:
		l.begin, l.end, l.long = 0, 0, true
	case l.begin > 0:
		copy(l.buf, l.buf[l.begin:l.end])
		l.begin, l.end = 0, held
	default:
		l.buf = append(l.buf, make([]byte, max(64<<10, len(l.buf)))...)
	}
}
