package layertar

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Headers say the same to archive/tar, whatever the lengths of what they say.
func TestTarHeader(t *testing.T) {
	check := func(path string, e filetree.Entry) {
		t.Helper()
		b, err := AppendHeader(nil, path, &e, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(b)%Block != 0 {
			t.Errorf("%.40s: header of %d bytes", path, len(b))
		}
		h, err := tar.NewReader(bytes.NewReader(b)).Next()
		if err != nil {
			t.Fatalf("name of %d bytes, link of %d: %v", len(path), len(e.Link), err)
		}
		want := path
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			want += "/"
		}
		if h.Name != want || h.Linkname != e.Link || h.Size != e.Size || !h.ModTime.Equal(e.ModTime) || h.Uid != int(e.UID) || h.Gid != int(e.GID) {
			t.Errorf("name of %d bytes: archive/tar reads %v", len(path), h)
		}
		for name, value := range e.Xattrs {
			if h.PAXRecords["SCHILY.xattr."+name] != value {
				t.Errorf("attribute of %d bytes is lost", len(value))
			}
		}
	}
	file, link := mode(unix.S_IFREG, 0o644), mode(unix.S_IFLNK, 0o777)
	for n := 1; n < 400; n++ {
		for _, unit := range []string{"x", "dir/", strings.Repeat("y", 99) + "/", strings.Repeat("z", 154) + "/"} {
			name := strings.Repeat(unit, n/len(unit)+1)[:n]
			if name = strings.TrimSuffix(name, "/"); name == "" {
				continue
			}
			check(name, file)
			check(name, mode(unix.S_IFDIR, 0o755))
			link.Link = name
			check("l", link)
		}
	}
	for n := range 1100 {
		file.Xattrs = map[string]string{"user.x": strings.Repeat("v", n)}
		check("x", file)
	}
	for _, e := range []filetree.Entry{
		{Size: 1<<33 - 1},
		{Size: 1 << 33},
		{Size: 1 << 60},
		{UID: 1<<21 - 1, GID: 1 << 21},
		{UID: 1<<32 - 2, GID: 1<<32 - 2},
	} {
		e.Mode, e.ModTime = unix.S_IFREG, time.Unix(0, 0)
		check("x", e)
	}
	for _, at := range []time.Time{
		time.Unix(0, 1), time.Unix(0, -1), time.Unix(-1, 0), time.Unix(-7, 999999999), time.Unix(1<<33-1, 0), time.Unix(1<<33, 0),
		time.Unix(1700000000, 120000000),
	} {
		check("x", filetree.Entry{Mode: unix.S_IFREG, ModTime: at})
	}
}

func TestTarHeaderErrors(t *testing.T) {
	for _, test := range []struct {
		path string
		e    filetree.Entry
		want string
	}{
		{"a\x00b", mode(unix.S_IFREG, 0), "name with a zero byte"},
		{"a", filetree.Entry{Mode: unix.S_IFLNK, Link: "\x00"}, "name with a zero byte"},
		{"a", filetree.Entry{Mode: unix.S_IFSOCK}, "mode 0140000 is of no type that a tar can hold"},
		{"a", filetree.Entry{Mode: unix.S_IFREG, Xattrs: map[string]string{"user.a=b": ""}}, `extended attribute "user.a=b": a tar cannot hold the name`},
	} {
		if _, err := AppendHeader(nil, test.path, &test.e, ""); err == nil || err.Error() != test.want {
			t.Errorf("%q: %v, want %s", test.path, err, test.want)
		}
	}
}

func mode(kind, perm uint32) filetree.Entry {
	return filetree.Entry{Mode: kind | perm, ModTime: time.Unix(1700000000, 0)}
}
