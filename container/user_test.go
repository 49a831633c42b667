package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The files of a container that runs are its own to change: what is no regular file is not even opened.
func TestLookupUserIn(t *testing.T) {
	t.Parallel()
	const text = "app:x:7:8::/:/bin/sh\n"
	for name, test := range map[string]struct {
		make func(passwd string) error
		want string
	}{
		"file": {func(passwd string) error { return os.WriteFile(passwd, []byte(text), 0o600) }, ""},
		"link": {func(passwd string) error {
			return errors.Join(os.WriteFile(filepath.Join(filepath.Dir(passwd), "real"), []byte(text), 0o600), os.Symlink("/etc/real", passwd))
		}, ""},
		// To open it is an error of its own: no driver has the number.
		"device":    {func(passwd string) error { return unix.Mknod(passwd, unix.S_IFCHR|0o600, 0) }, "/etc/passwd: is not a regular file"},
		"pipe":      {func(passwd string) error { return unix.Mkfifo(passwd, 0o600) }, "/etc/passwd: is not a regular file"},
		"directory": {func(passwd string) error { return os.Mkdir(passwd, 0o700) }, "/etc/passwd: is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "etc"), 0o755), test.make(filepath.Join(dir, "etc/passwd"))); err != nil {
				t.Fatal(err)
			}
			root := must1(os.Open(dir))(t)
			defer root.Close()
			u, err := LookupUserIn(root, "app", nil)
			switch {
			case test.want == "" && (err != nil || u.UID != 7 || u.GID != 8):
				t.Errorf("%+v, %v", u, err)
			case test.want != "" && (err == nil || err.Error() != test.want):
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
