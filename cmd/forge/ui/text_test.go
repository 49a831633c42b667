package ui

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, line, lines, colored string }{
		{"plain", "plain", "plain", "plain"},
		{"a\tb\nc\n", "a b c", "a\tb\nc\n", "a b c"},
		{"\x1b[31mred\x1b[0m", "red", "red", "\x1b[31mred\x1b[0m\x1b[0m"},
		{"\x1b[38;2;1;2;3mx", "x", "x", "\x1b[38;2;1;2;3mx\x1b[0m"},
		{"a\x1b[2Jb\x1b[10;10Hc", "abc", "abc", "abc"},
		{"a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc", "abc", "abc"},
		{"a\x1bPq\x1b\\b\x1b(Bc\x1b7d\x1bce", "abcde", "abcde", "abcde"},
		{"a\u009b2Jb\u009d0;x\u009cc\u0085d", "abcd", "abcd", "abcd"},
		{"no end \x1b[31", "no end ", "no end ", "no end "},
		{"no end \x1b]0;x", "no end ", "no end ", "no end "},
		{"\x1b[>4;2mx\x1b[?25lx", "xx", "xx", "xx"}, // end like colours, and are none
		{"10%\x1b[2K\x1b[1G20%", "20%", "10%20%", "20%"},
		{"10%\x1b[G", "10%", "10%", "10%"},
		{"10%\r20%", "20%", "10%20%", "20%"},
		{"|\b/\b-", "-", "-", "-"},
		{"漢\b字", "字", "字", "字"},
		{"\b\bx", "x", "x", "x"},
		{"a\u202eb\u2066c", "abc", "abc", "abc"},
		{"bad \xff\x9b2J", "bad \ufffd\ufffd2J", "bad \ufffd\ufffd2J", "bad \ufffd\ufffd2J"},
		{"bell\x07 nul\x00 del\x7f", "bell nul del", "bell nul del", "bell nul del"},
	} {
		if got := oneLine(test.in); got != test.line {
			t.Errorf("oneLine(%q) = %q, want %q", test.in, got, test.line)
		}
		if got := Lines(test.in); got != test.lines {
			t.Errorf("Lines(%q) = %q, want %q", test.in, got, test.lines)
		}
		if got := (palette{on: true}).log(strings.TrimRight(test.in, "\n")); got != test.colored {
			t.Errorf("with colours %q is %q, want %q", test.in, got, test.colored)
		}
	}
}

func TestCells(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		want int
		cut  string // to 5 cells
	}{
		{"hello", 5, "hello"},
		{"hello!", 6, "hell…"},
		{"漢字仮", 6, "漢字…"},
		{"a漢字仮", 7, "a漢…"},
		{"é\u0301e\u0301", 2, "é\u0301e\u0301"},
		{"🎉🎉", 4, "🎉🎉"},
		{"ﾊﾝｶｸ", 4, "ﾊﾝｶｸ"},
		{"ＡＢＣ", 6, "ＡＢ…"},
		{"❤\ufe0f", 2, "❤\ufe0f"},
		{"\x1b[31mred\x1b[0m", 3, "\x1b[31mred\x1b[0m"},
		{"\x1b[31mreddish\x1b[0m", 7, "\x1b[31mredd…\x1b[0m"},
		{"→…·", 3, "→…·"},
	} {
		if got := cells(test.in); got != test.want {
			t.Errorf("%q takes %d cells, want %d", test.in, got, test.want)
		}
		if got := cut(test.in, 5); got != test.cut {
			t.Errorf("%q in 5 cells is %q, want %q", test.in, got, test.cut)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1 kB", 62_149_000: "62.1 MB", 999_499: "999 kB", 999_500: "1 MB", 1_250_000_000: "1.25 GB", 99_960_000: "100 MB", 9_996_000: "10 MB",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

// Whatever a command prints, nothing but text and colours comes out, and the line is as long as it is said to be.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"\x1b[31mred", "\x1b]0;\x07", "\u009b1A", "a\r\x1b[2Kb\b\b", "\xc2", "\x1b", "漢🎉\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, how := range []cleaning{0, dropColor, joinLines, dropColor | joinLines} {
			out := clean(s, how)
			if !utf8.ValidString(out) {
				t.Errorf("clean(%q) = %q", s, out)
			}
			for rest := out; rest != ""; {
				if seq := escape(rest); seq > 0 {
					if how&dropColor != 0 || !isSGR(rest[:seq]) {
						t.Errorf("clean(%q) = %q, with a sequence %q", s, out, rest[:seq])
					}
					rest = rest[seq:]
					continue
				}
				r, n := utf8.DecodeRuneInString(rest)
				if r < ' ' && (r != '\n' && r != '\t' || how&joinLines != 0) || r >= 0x7f && r < 0xa0 {
					t.Errorf("clean(%q) = %q, with %q", s, out, r)
				}
				rest = rest[n:]
			}
			if short := cut(out, 9); how&joinLines != 0 && cells(short) > 9 {
				t.Errorf("%q has %d cells, cut to 9", short, cells(short))
			}
		}
	})
}

// TestLine holds that what is shown of a text in one line is all of it, and that a writer steers a terminal as little, however it is cut.
func TestLine(t *testing.T) {
	t.Parallel()
	const in = "one\x1b[2J\ntwo\rthree\u009b2J\n"
	if got, want := Line(in), "one twothree "; got != want {
		t.Errorf("Line(%q) = %q, want %q", in, got, want)
	}
	for at := range len(in) {
		var b strings.Builder
		w := Clean(&b)
		for _, part := range []string{in[:at], in[at:]} {
			if n, err := io.WriteString(w, part); n != len(part) || err != nil {
				t.Errorf("%d bytes of %d are written, %v", n, len(part), err)
			}
		}
		if got := b.String(); strings.ContainsAny(got, "\x1b\r\u009b") || !strings.Contains(got, "two") {
			t.Errorf("cut at %d it is %q", at, got)
		}
	}
}
