package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

func TestReadXattrs(t *testing.T) {
	dir := t.TempDir()
	long := "user." + strings.Repeat("n", 200)
	for name, attributes := range map[string]map[string]string{
		"none": nil, "some": {"user.a": "1", "user.empty": "", "user.b": strings.Repeat("v", 3000)}, "long": {long: "1"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for attribute, value := range attributes {
			if err := unix.Setxattr(path, attribute, []byte(value), 0); err != nil {
				need(t, "user attributes", false)
			}
		}
	}
	if err := os.Symlink("some", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	f, err := openDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	for name, want := range map[string]int{"none": 0, "some": 3, "long": 1, "link": 0} {
		got, err := readXattrs(fd, name, filetree.KeepXattr)
		if err != nil || len(got) != want || name == "none" && got != nil {
			t.Errorf("%s has %q %v, want %d attributes", name, got, err, want)
		}
		a, b := make([]byte, 1024), make([]byte, 1024)
		n, err := listXattrs(fd, name, a)
		m, byPathErr := listXattrsByPath(fd, name, b)
		if string(a[:max(n, 0)]) != string(b[:max(m, 0)]) || err != byPathErr {
			t.Errorf("%s: listed %q %v, by path %q %v", name, a[:max(n, 0)], err, b[:max(m, 0)], byPathErr)
		}
	}
	if got, err := readXattrs(fd, "some", func(string) bool { return true }); err != nil || got["user.b"] != strings.Repeat("v", 3000) {
		t.Errorf("a long value is %q %v", got["user.b"], err)
	}
	if _, err := readXattrs(fd, "missing", filetree.KeepXattr); err != unix.ENOENT {
		t.Errorf("attributes of a missing file: %v", err)
	}
}
