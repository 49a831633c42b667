package planner

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestModeChange(t *testing.T) {
	const file, dir, link = syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFLNK
	for _, test := range []struct {
		change   string
		in, want uint32
	}{
		{"", file | 0o4644, file | 0o4644},
		{"600", file | 0o4755, file | 0o600},
		{"0600", dir | 0o755, dir | 0o600},
		{"7777", file | 0o644, file | 0o7777},
		{"0", file | 0o644, file},
		{"755", link | 0o777, link | 0o777},
		{"a+x", link | 0o777, link | 0o777},
		{"a+x", file | 0o644, file | 0o755},
		{"+x", file | 0o644, file | 0o755},
		{"u+x", file | 0o644, file | 0o744},
		{"go-r", file | 0o644, file | 0o600},
		{"u=rwX,go=rX", file | 0o600, file | 0o644},
		{"u=rwX,go=rX", file | 0o711, file | 0o755},
		{"u=rwX,go=rX", dir | 0o700, dir | 0o755},
		{"a=", file | 0o777, file},
		{"u+s", file | 0o755, file | 0o4755},
		{"g+s", file | 0o755, file | 0o2755},
		{"+s", file | 0o755, file | 0o6755},
		{"o+s", file | 0o755, file | 0o755},
		{"+t", dir | 0o777, dir | 0o1777},
		{"o+t", dir | 0o777, dir | 0o777},
		{"u=rw", file | 0o4755, file | 0o655},
		{"a=r", dir | 0o1777, dir | 0o1444},
		{"g=u", file | 0o640, file | 0o660},
		{"g=u-w", file | 0o640, file | 0o640},
		{"go=u-w", file | 0o700, file | 0o755},
		{"o+g", file | 0o640, file | 0o644},
		{"u-x,g+w,o=r", file | 0o755, file | 0o674},
		{"u+rw-x", file | 0o500, file | 0o600},
		{"a-X", file | 0o755, file | 0o644},
		{"ug+w,o-rwx", file | 0o444, file | 0o660},
	} {
		m, err := ParseMode(test.change)
		if err != nil {
			t.Errorf("%q: %v", test.change, err)
			continue
		}
		if got := m.Apply(test.in); got != test.want {
			t.Errorf("%q of %o is %o, want %o", test.change, test.in, got, test.want)
		}
	}
	for _, bad := range []string{"10000", "888", "77777777777", "8", "rwx", "u", "u+q", "+x,", "z+x", "u x", "0x1", "u+x,,g+x"} {
		if _, err := ParseMode(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q is accepted or not named: %v", bad, err)
		}
	}
	for change, want := range map[string]string{"": "40755", "600": "40600", "1777": "40777", "u=rwx": "40755"} {
		m, err := ParseMode(change)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%o", m.Parents()); got != want {
			t.Errorf("%q makes parents %s, want %s", change, got, want)
		}
	}
}

func FuzzModeChange(f *testing.F) {
	for _, s := range []string{"u=rwX,go=rX", "0755", "a+x", "g=u-w+t"} {
		f.Add(s, uint32(0o644))
	}
	f.Fuzz(func(t *testing.T, s string, mode uint32) {
		m, err := ParseMode(s)
		if err != nil {
			return
		}
		if got := m.Apply(mode); got&^permissionBits != mode&^permissionBits {
			t.Errorf("%q of %o is %o: more than permissions changed", s, mode, got)
		}
	})
}
