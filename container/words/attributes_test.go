package words_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/forge-build/forge/container/words"
)

func TestAttributes(t *testing.T) {
	for _, test := range []struct {
		in, want, err string
	}{
		{`type=oci,dest=x.tar`, `[type oci dest x.tar]`, ""},
		{`"dest=a,b",name=say ""c""`, "", `parse error on line 1, column 21: bare " in non-quoted-field`},
		{`"dest=a,b","name=say ""c"""`, `[dest a,b name say "c"]`, ""},
		{` key =v=w`, `[key v=w]`, ""},
		{`key=`, `[key ]`, ""},
		{`key,a=b`, "", `"key" has no value`},
		{``, "", "value is empty"},
		{`bad=1,a=b`, "", "refused"},
	} {
		var got []string
		err := words.Attributes(test.in, func(key, value string) error {
			if key == "bad" {
				return errors.New("refused")
			}
			got = append(got, key, value)
			return nil
		})
		if fmt.Sprint(err) != cmp.Or(test.err, "<nil>") || err == nil && fmt.Sprint(got) != test.want {
			t.Errorf("Attributes(%q): %v, %v; want %s, %q", test.in, got, err, test.want, test.err)
		}
	}
}

// TestJoinFields joins what Fields splits again.
func TestJoinFields(t *testing.T) {
	for _, fields := range [][]string{{"a=b", "c"}, {"a=b,c", `d="e"`}, {"a=line\nbreak"}} {
		if got, err := words.Fields(words.JoinFields(fields)); err != nil || !slices.Equal(got, fields) {
			t.Errorf("Fields(JoinFields(%q)) = %q, %v", fields, got, err)
		}
	}
}
