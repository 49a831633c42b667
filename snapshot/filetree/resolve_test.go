package filetree

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestResolveLength holds that a path longer than MaxPath is refused before the tree is asked for its components, also if links make
// it so long, and that one of MaxPath is not.
func TestResolveLength(t *testing.T) {
	const dir = "a/"
	long := strings.Repeat(dir, MaxPath/len(dir)/2)
	for _, test := range []struct {
		name, kind string
		link       string // target of what is called link; anything else is a directory, or is missing
		err        error
		asked      int // at most
	}{
		{strings.Repeat(dir, MaxPath/len(dir)), "directories", "", nil, MaxPath / len(dir)},
		{strings.Repeat(dir, MaxPath/len(dir)), "missing", "", fs.ErrNotExist, MaxPath/len(dir) + 1},
		{strings.Repeat(dir, MaxPath/len(dir)) + "a", "directories", "", unix.ENAMETOOLONG, 0},
		{strings.Repeat("./", MaxPath), "directories", "", unix.ENAMETOOLONG, 0},
		{"link/link", "directories", long, nil, MaxPath},
		{"link/link/link/link", "directories", long, unix.ENAMETOOLONG, MaxPath},
		{"link/link/link/link", "missing", long, unix.ENAMETOOLONG, MaxPath},
	} {
		asked := 0
		_, err := Resolve(func(name string) (Entry, error) {
			asked++
			switch _, base := Split(name); {
			case base == "link":
				return Entry{Mode: unix.S_IFLNK, Link: test.link}, nil
			case test.kind == "missing":
				return Entry{}, fs.ErrNotExist
			}
			return Entry{Mode: unix.S_IFDIR}, nil
		}, test.name)
		if !errors.Is(err, test.err) || test.err == nil && err != nil || asked > test.asked {
			t.Errorf("%.20s… (%d bytes), %s: %.200v after %d questions; want %v after %d at most", test.name, len(test.name), test.kind, err, asked, test.err, test.asked)
		}
		if errors.Is(err, unix.ENAMETOOLONG) && len(err.Error()) > 200 {
			t.Errorf("%.20s…: the error has %d bytes", test.name, len(err.Error()))
		}
	}
}
