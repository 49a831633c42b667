package filetree

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a b", "", "a- b-"},
		{"", "a b", "-a -b"},
		{"a c d", "b c e", "a- -b cc d- -e"},
		{"a a.b a0", "a a/ a0", "aa a.b- -a/ a0a0"},
	} {
		self := func(s *string) string { return *s }
		var got []string
		err := Merge(strings.Fields(test.a), strings.Fields(test.b), self, self, func(a, b *string) error {
			said := func(s *string) string {
				if s == nil {
					return "-"
				}
				return *s
			}
			got = append(got, said(a)+said(b))
			return nil
		})
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q and %q: %q, %v; want %q", test.a, test.b, got, err, test.want)
		}
	}
	stop := fmt.Errorf("stop")
	if err := Merge([]Entry{{}}, nil, EntryName, EntryName, func(*Entry, *Entry) error { return stop }); err != stop {
		t.Errorf("the error of the function is %v", err)
	}
}

// TestReadNames reads a directory whose names take several system calls.
func TestReadNames(t *testing.T) {
	dir := t.TempDir()
	want := []string{"dir", "link"}
	for i := range 100 {
		want = append(want, fmt.Sprintf("%03d-%s", i, strings.Repeat("n", 100)))
	}
	for _, name := range want[2:] {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	err = ReadNames(int(f.Fd()), make([]byte, 1024), func(name []byte, _ uint8) error {
		if name[:len(name)+1][len(name)] != 0 {
			t.Errorf("no zero byte follows %s", name)
		}
		got = append(got, string(name))
		return nil
	})
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %d names, %v; want %d", len(got), err, len(want))
	}
}
