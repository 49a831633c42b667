package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDigestGroups holds how deep a selection is digested, and that what is known of its files before does not matter.
func TestDigestGroups(t *testing.T) {
	t.Parallel()
	many := func(n int, format string) (files []string) {
		for i := range n {
			files = append(files, fmt.Sprintf(format, i)+"=x")
		}
		return files
	}
	for _, test := range []struct {
		name  string
		files []string
		q     Query
		want  string
	}{
		{"few", []string{"a=1", "d/b=2", "d/e/c=3"}, Query{}, "/ /a /d /d/b /d/e /d/e/c"},
		{"as many as there may be", many(63, "f%02d"), Query{}, "/" + strings.ReplaceAll(strings.Join(append([]string{""}, many(63, "/f%02d")...), " "), "=x", "")},
		{"one more", many(64, "f%02d"), Query{}, "/"},
		{"many in few directories", slices.Concat(many(40, "c/%02d"), many(40, "d/%02d")), Query{}, "/ /c /d"},
		{"many directories", many(100, "d%02d/f"), Query{}, "/"},
		{"few beside many that are left out", append(many(100, "x%02d/f"), "a/b=1"), Query{Exclude: []string{"x*"}}, "/ /a /a/b"},
		{"one of many", append(many(100, "x%02d/f"), "a/b=1"), Query{Path: "a", Parents: true}, "/ /a /a/b"},
		{"a file", []string{"a=1"}, Query{Path: "a"}, "/a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := makeDir(t, test.files...)
			for _, big := range []string{"a", "c", "f00"} { // more than is read on the way
				if info, err := os.Stat(filepath.Join(root, big)); err == nil && info.Mode().IsRegular() {
					must(t, os.Truncate(filepath.Join(root, big), onTheWay+1))
				}
			}
			d := openDir(t, root, nil, "")
			first := digestGroups(t, d, test.q)
			var names []string
			for _, f := range first {
				names = append(names, f.Name)
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("groups are %s, want %s", got, test.want)
			}
			if again := digestGroups(t, d, test.q); !slices.Equal(again, first) {
				t.Errorf("with all digests known: %v, before: %v", again, first)
			}
		})
	}
}

func digestGroups(t *testing.T, d *Dir, q Query) []FileDigest {
	t.Helper()
	found, err := Select(t.Context(), d, q)
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%d selections", len(found))
	}
	groups, err := found[0].digests(t.Context())
	must(t, err)
	return groups
}
