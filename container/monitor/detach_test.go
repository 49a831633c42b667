package monitor

import (
	"errors"
	"io"
	"testing"
)

func TestDetachKeys(t *testing.T) {
	for text, want := range map[string]string{
		"": "\x10\x11", "ctrl-p,ctrl-q": "\x10\x11", "ctrl-a,d": "\x01d", "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_": "\x00\x1b\x1c\x1d\x1e\x1f",
		"DEL": "\x7f", "x": "x",
		"ctrl-": "unknown character: 'ctrl-'", "ctrl-A": "unknown character: 'ctrl-A'", "ab": "unknown character: 'ab'", "a,": "unknown character: ''", "é": "unknown character: 'é'",
	} {
		keys, err := parseDetachKeys(text)
		got := string(keys)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// typing is typed in parts. It writes down when more is wanted, and the end.
type typing struct {
	parts []string
	n     int
	log   string
	over  bool
}

func (s *typing) Read(p []byte) (int, error) {
	if s.n == len(s.parts) {
		s.over = true
		return 0, io.EOF
	}
	if s.n > 0 {
		s.log += "/"
	}
	s.n++
	return copy(p, s.parts[s.n-1]), nil
}

// TestDetachReader: what a user types is in parts, what the container gets has a slash between those, and a plus before what it gets at the
// end only.
func TestDetachReader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		keys  string
		typed []string
		want  string
	}{
		{"p,q", []string{"abc"}, "abc"},
		{"p,q", []string{"apq", "b"}, "a!"},
		{"p,q", []string{"ap", "qb"}, "a/!"},
		{"p,q", []string{"ap", "b", "pq"}, "a/pb/!"},
		{"p,q", []string{"p", "p", "q"}, "/p/!"},
		{"p,q", []string{"pppq"}, "pp!"},
		{"p,q", []string{"ap"}, "a+p"},
		{"a,a,b", []string{"aaab"}, "a!"},
		{"a,b,a,c", []string{"ab", "ab", "ac"}, "/ab/!"},
		{"a,b,a,c", []string{"abaabac"}, "aba!"},
		{"a,a,a", []string{"aab", "aa"}, "aab/+aa"},
		{"x", []string{"ax"}, "a!"},
		{"x", []string{"ab"}, "ab"},
		{"", []string{"ab\x10", "\x11"}, "ab/!"},
	} {
		s := &typing{parts: test.typed}
		r, err := DetachReader(s, test.keys)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		for {
			var n int
			if n, err = r.Read(buf); n > 0 {
				if s.over {
					s.log += "+"
				}
				s.log += string(buf[:n])
			}
			if err != nil {
				break
			}
		}
		if errors.Is(err, ErrDetached) {
			s.log += "!"
		} else if err != io.EOF {
			t.Errorf("keys %q: %v", test.keys, err)
		}
		if s.log != test.want {
			t.Errorf("keys %q, typed %q: %q, want %q", test.keys, test.typed, s.log, test.want)
		}
	}
}
