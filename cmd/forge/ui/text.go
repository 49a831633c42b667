package ui

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// oneLine is text of a stranger in one line, without control characters and sequences. Where the text goes back to the beginning of
// the line and writes it anew, only the last state is left.
func oneLine(s string) string { return clean(strings.TrimRight(s, "\r\n"), dropColor|joinLines) }

// Lines is text of a stranger with its lines, but without other control characters and sequences: it must not steer a terminal.
func Lines(s string) string { return clean(s, dropColor) }

// Line is text of a stranger in one line, all of it: a line end in it does not begin what looks like a line of ours.
func Line(s string) string { return strings.ReplaceAll(Lines(s), "\n", " ") }

// Clean returns a writer of text of strangers: of what is written at a time it passes on what [Lines] leaves.
func Clean(w io.Writer) io.Writer { return cleaner{w} }

type cleaner struct{ w io.Writer }

func (c cleaner) Write(text []byte) (int, error) {
	_, err := io.WriteString(c.w, Lines(string(text)))
	return len(text), err
}

// A cleaning says what clean takes away besides what steers a terminal.
type cleaning int

const (
	dropColor cleaning = 1 << iota
	joinLines
)

// clean leaves of a text what can be shown: letters, lines and, unless they are to go, colours. Text that keeps colours ends without.
func clean(s string, how cleaning) string {
	if plainASCII(s) {
		return s
	}
	out := make([]byte, 0, len(s))
	colored, start, fixed := false, 0, 0 // what stands before fixed is not taken back: a sequence, and what a line restarts behind
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		seq := escape(s)
		switch {
		case seq > 0:
			if isSGR(s[:seq]) && how&dropColor == 0 {
				out, colored = append(out, s[:seq]...), true
				fixed = len(out)
			}
			if how&joinLines != 0 && restarts(s[:seq]) {
				start, fixed = len(out), len(out)
			}
			size = seq
		case r == '\n' || r == '\t':
			if how&joinLines != 0 {
				r = ' '
			}
			out = append(out, byte(r))
		case r == '\b':
			_, last := utf8.DecodeLastRune(out[fixed:])
			out = out[:len(out)-last]
		case r == '\r' && how&joinLines != 0:
			start, fixed = len(out), len(out)
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || steersText(r):
		default:
			out = utf8.AppendRune(out, r)
		}
		s = s[size:]
	}
	if len(bytes.TrimSpace(out[start:])) > 0 {
		out = out[start:]
	}
	if colored {
		out = append(out, reset...)
	}
	return string(out)
}

// plainASCII reports whether there is nothing to clean: most lines are so.
func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// steersText reports whether a character turns the direction of others around, or begins a line.
func steersText(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x2028 || r == 0x2029
}

// escape is the length in bytes of the control sequence that s begins with (ECMA-48), 0 if it begins with none. One without an end
// takes the rest.
func escape(s string) int {
	at, kind := 2, byte(0)
	switch {
	case len(s) > 1 && s[0] == 0x1b:
		kind = s[1]
	case len(s) > 1 && s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0: // the same as one character
		kind = s[1] - 0x40
	default:
		return 0
	}
	switch kind {
	case '[':
		for ; at < len(s); at++ {
			if s[at] >= 0x40 && s[at] <= 0x7e {
				return at + 1
			}
			if s[at] < ' ' { // broken off
				return at
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_':
		for ; at < len(s); at++ {
			switch {
			case s[at] == 0x07:
				return at + 1
			case s[at] == 0x1b && at+1 < len(s) && s[at+1] == '\\', s[at] == 0xc2 && at+1 < len(s) && s[at+1] == 0x9c:
				return at + 2
			case s[at] == '\n':
				return at
			}
		}
		return len(s)
	}
	if s[0] != 0x1b {
		return 2
	}
	for at = 1; at < len(s) && s[at] >= 0x20 && s[at] <= 0x2f; at++ { // ESC, intermediates, one more
	}
	if at < len(s) && s[at] >= 0x30 && s[at] < 0x7f {
		at++
	}
	return at
}

// isSGR reports whether a sequence sets colours, and nothing else.
func isSGR(seq string) bool {
	return strings.HasPrefix(seq, "\x1b[") && seq[len(seq)-1] == 'm' && strings.Trim(seq[2:len(seq)-1], "0123456789;:") == ""
}

// restarts reports whether a sequence goes to the beginning of the line, or clears it.
func restarts(seq string) bool {
	switch strings.TrimPrefix(seq, "\x1b[") {
	case "G", "0G", "1G", "2K":
		return true
	}
	return false
}

// cells is how many cells of a terminal a text takes. Where terminals differ (emoji that are joined), it is the most.
func cells(s string) (n int) {
	for len(s) > 0 {
		if seq := escape(s); seq > 0 {
			s = s[seq:]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		n += runeCells(r)
		s = s[size:]
	}
	return n
}

// emojiStyle asks for the coloured form of the character before it, which is wide.
const emojiStyle = 0xfe0f

func runeCells(r rune) int {
	switch {
	case r >= ' ' && r < 0x7f:
		return 1
	case r == emojiStyle:
		return 1
	case r == 0xad: // a soft hyphen: terminals show it
		return 1
	case r < ' ' || r >= 0x7f && r < 0xa0 || unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) || r >= 0x1160 && r <= 0x11ff:
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens a text to at most so many cells, and says by its end that it did.
func cut(s string, most int) string {
	if len(s) <= most || cells(s) <= most {
		return s
	}
	n, at, colored := 0, 0, false
	for at < len(s) {
		if seq := escape(s[at:]); seq > 0 {
			colored = true
			at += seq
			continue
		}
		r, size := utf8.DecodeRuneInString(s[at:])
		if n+runeCells(r) > most-1 {
			break
		}
		n += runeCells(r)
		at += size
	}
	if most < 1 {
		return ""
	}
	if colored {
		return s[:at] + "…" + reset
	}
	return s[:at] + "…"
}
