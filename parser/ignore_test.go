package parser

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseIgnore(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "[]"},
		{"a\nb\n", `["a" "b"]`},
		{"a\r\nb\r\n", `["a" "b"]`},
		{"\uFEFFa\n", `["a"]`},
		{"# comment\na\n #not\n", `["a" "#not"]`},
		{"\uFEFF# comment\na\n", `["a"]`},
		{"  a  \n\t\n\n", `["a"]`},
		{"/a\n./b\nc/\n/\n.\n//d\n", `["a" "b" "c" "/" "." "d"]`},
		{"a/../b\n../c\n", `["b" "../c"]`},
		{"!a\n! b \n!/c/\n!./d\n", `["!a" "!b" "!c" "!d"]`},
		{"**/x\na/**\n*.o\n[a-c]?\n", `["**/x" "a/**" "*.o" "[a-c]?"]`},
		{"a(b+c\n", `["a(b+c"]`},
		{"a\n!\n", `.dockerignore:2: illegal exclusion pattern: "!"`},
		{"a\n!  \n", `.dockerignore:2: illegal exclusion pattern: "!"`},
		{"a\n[\n", ".dockerignore:2: pattern [: syntax error in pattern"},
		{"a[]b\n", ".dockerignore:1: pattern a[]b: syntax error in pattern"},
		{"!a[\n", ".dockerignore:1: pattern a[: syntax error in pattern"},
		{"a\\\n", ".dockerignore:1: pattern a\\: syntax error in pattern"},
		{"a\n" + strings.Repeat("*a", 2049) + "\n", ".dockerignore:2: pattern of 4098 bytes, more than the 4096 of a path"},
	} {
		patterns, err := ParseIgnore([]byte(test.text))
		got := fmt.Sprintf("%q", patterns)
		if err != nil {
			got = err.Error()
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%q: %T", test.text, err)
			}
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
	}
}
