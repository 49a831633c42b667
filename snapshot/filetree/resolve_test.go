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

// TestResolveDeep holds that a long name is resolved with few looks, since each takes as long as the name is.
func TestResolveDeep(t *testing.T) {
	deep := strings.Repeat("a/", 1000) // directories
	half := strings.Repeat("a/", 500)
	for _, test := range []struct{ name, want string }{
		{deep + "f", deep + "f"},
		{deep + "none", deep + "none: missing"},
		{deep + "none/" + half + "f", deep + "none/" + half + "f: missing"},
		{"link/" + half + "f", "link/" + half + "f: not a directory"},
		{"l/" + half + "f", deep + "f"},
		{"l/l/f", half + "l/f: missing"},
		{half + "../" + half + "none", strings.Repeat("a/", 999) + "none: missing"},
		{"f/" + half + "f", "f/" + half + "f: not a directory"},
		{"none/../" + deep + "f", deep + "f"},
		{"none/" + half + "../x", "none/" + strings.Repeat("a/", 499) + "x: missing"},
	} {
		looks := 0
		got, err := Resolve(func(name string) (Entry, error) {
			looks++
			switch {
			case strings.HasPrefix(deep, name+"/"):
				return Entry{Mode: unix.S_IFDIR}, nil
			case name == "l":
				return Entry{Mode: unix.S_IFLNK, Link: "/" + half}, nil
			case name == deep+"f", name == "f", name == "link":
				return Entry{Mode: unix.S_IFREG}, nil
			case strings.HasPrefix(name, "f/"), strings.HasPrefix(name, "link/"), strings.HasPrefix(name, "l/"):
				return Entry{}, unix.ENOTDIR
			}
			return Entry{}, fs.ErrNotExist
		}, test.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			got += ": missing"
		case errors.Is(err, unix.ENOTDIR):
			got = test.name + ": " + err.Error()
		case err != nil:
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%.20s… (%d bytes) is %.40s… (%d bytes), %v, want %.40s… (%d bytes)", test.name, len(test.name), got, len(got), err, test.want, len(test.want))
		}
		if looks > 64 {
			t.Errorf("%.20s… (%d bytes) took %d looks", test.name, len(test.name), looks)
		}
	}
}
