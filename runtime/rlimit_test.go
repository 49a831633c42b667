package runtime

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseUlimit(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"nofile=99:100", "{nofile 99 100}"},
		{"core=0", "{core 0 0}"},
		{"stack=-1", "{stack 18446744073709551615 18446744073709551615}"},
		{"memlock=1:unlimited", "{memlock 1 18446744073709551615}"},
		{"nofiles=1", "invalid ulimit type: nofiles"},
		{"nofile", "must be NAME=SOFT[:HARD]"},
		{"nofile=x", `"x" is not a number`},
		{"nofile=2:1", "the soft limit is above the hard one"},
		{"nofile=-2", `"-2" is not a number`},
	} {
		u, err := ParseUlimit(test.in)
		got := fmt.Sprint(u)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("ParseUlimit(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}
