package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func open(t *testing.T) *Store {
	return Open(filepath.Join(t.TempDir(), "volumes"), os.RemoveAll)
}

// acquire makes a volume and gives its lock up.
func acquire(t *testing.T, s *Store, r Record) {
	t.Helper()
	lock, _, err := s.Acquire(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

// write writes files, each with its own name in it.
func write(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(dir, n)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(n), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// list is the files of a directory, as "name name/name".
func list(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"data":                       "",
		"A1_x.y-z":                   "",
		"a":                          "create a: volume name is too short, names should be at least two alphanumeric characters",
		"":                           "includes invalid characters",
		".x":                         "includes invalid characters",
		"..":                         "includes invalid characters",
		"a/b":                        `create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
		"~/data":                     "includes invalid characters",
		"a\n":                        "includes invalid characters",
		strings.Repeat("x", 256):     "too long",
		strings.Repeat("x", maxName): "",
	} {
		got := CheckName(name)
		if (got == nil) != (want == "") || got != nil && !strings.Contains(got.Error(), want) {
			t.Errorf("CheckName(%q) = %v, want %q", name, got, want)
		}
	}
}

func TestCheckOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ options, want string }{
		{"", ""},
		{"type=none o=bind device=/srv", ""},
		{"o=ro,bind device=/srv", ""},
		{"size=1", "quota size requested but no quota support"},
		{"quota=1", `invalid option: "quota"`},
		{"type=none o=bind", `missing required option: "device"`},
		{"device=/dev/sdb1", `missing required option: "type"`},
		{"o=ro", `missing required option: "device"`},
		{"type=tmpfs device=tmpfs o=size=1m", ""},
		{"type=nfs o=addr=1.2.3.4,rw device=:/x", ""},
		{"type=cifs device=//host:445/x", "port not allowed in CIFS device URL"},
		{"type=tmpfs device=tmpfs o=" + strings.Repeat("x", 5000), "mount options of 5000 bytes"},
		{"o=bind device=srv", `device "srv": must be an absolute path`},
		{"o=rbind,rshared,nosymfollow,atime,nofail,x-a=b device=/srv", ""},
		{"o=bind,size=1m device=/srv", `a directory cannot be mounted with the option "size=1m"`},
		{"o=dirsync,bind device=/srv", "dirsync is an option of a whole file system"},
	} {
		options := map[string]string{}
		for _, o := range strings.Fields(test.options) {
			k, v, _ := strings.Cut(o, "=")
			options[k] = v
		}
		got := CheckOptions(options)
		if (got == nil) != (test.want == "") || got != nil && !strings.Contains(got.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.options, got, test.want)
		}
	}
}

// TestReadOnly: of flags the last one counts, as mount(8) has it; a file system has them where it is mounted.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for o, want := range map[string]bool{"bind": false, "bind,ro": true, "ro,rbind": true, "bind,ro,rw": false, "ro": false, "bind,rom": false} {
		r := Record{Options: map[string]string{"type": "none", "o": o, "device": "/srv"}}
		if got := r.ReadOnly(); got != want {
			t.Errorf("o=%s: %v", o, got)
		}
	}
}

// TestLife: a volume is what the first who named it made of it, until it is removed.
func TestLife(t *testing.T) {
	t.Parallel()
	s := open(t)
	var missing *NotFoundError
	if _, err := s.Record("data"); !errors.As(err, &missing) || err.Error() != "get data: no such volume" {
		t.Errorf("before: %v", err)
	}
	acquire(t, s, Record{Name: "data", Labels: map[string]string{"a": "1"}})
	lock, made, err := s.Acquire(t.Context(), Record{Name: "data"})
	if err != nil || made {
		t.Fatalf("made %t, %v: a volume was made twice", made, err)
	}
	if _, err := s.TryLock("data"); err == nil {
		t.Error("two hold the lock")
	}
	if r, err := s.Record("data"); err != nil || r.Labels["a"] != "1" || r.Created.IsZero() {
		t.Errorf("record %+v, %v", r, err)
	}
	if info, err := os.Stat(s.DataPath("data")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("data: %v, %v", info, err)
	}
	if err := errors.Join(s.Remove("data"), lock.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock(t.Context(), "data"); !errors.As(err, &missing) {
		t.Errorf("lock of what is gone: %v", err)
	}
	if names, err := s.Names(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	if entries, _ := os.ReadDir(s.dir); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

// TestFill: an empty volume gets the files, whatever one who was killed has left; another one keeps its own.
func TestFill(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name              string
		data, half, ready []string // what is in _data, new and ready
		want              string
	}{
		{"empty", nil, nil, nil, "a d/b"},
		{"not empty", []string{"mine"}, nil, nil, "mine"},
		{"killed while copying", nil, []string{"a", "x"}, nil, "a d/b"},
		{"killed before moving", nil, nil, []string{"a", "d/b", "old"}, "a d/b old"},
		{"killed while moving", []string{"a"}, nil, []string{"d/b"}, "a d/b"},
		{"written meanwhile", []string{"d/mine"}, nil, []string{"a", "d/b"}, "a d/mine"},
	} {
		s := open(t)
		acquire(t, s, Record{Name: "data"})
		dir := filepath.Dir(s.DataPath("data"))
		write(t, s.DataPath("data"), test.data...)
		write(t, filepath.Join(dir, newDir), test.half...)
		write(t, filepath.Join(dir, readyDir), test.ready...)
		if len(test.half) == 0 {
			os.Remove(filepath.Join(dir, newDir))
		}
		if len(test.ready) == 0 {
			os.Remove(filepath.Join(dir, readyDir))
		}
		before, err := os.Stat(s.DataPath("data"))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Fill(t.Context(), "data", func(dir *os.File) error {
			write(t, dir.Name(), "a", "d/b")
			return dir.Chmod(os.ModeSticky | 0o750)
		})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := list(t, s.DataPath("data")); got != test.want {
			t.Errorf("%s: files %q, want %q", test.name, got, test.want)
		}
		after, err := os.Stat(s.DataPath("data"))
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: the directory is another one (%v)", test.name, err)
		}
		if test.name == "empty" && after.Mode() != os.ModeDir|os.ModeSticky|0o750 {
			t.Errorf("mode %v", after.Mode())
		}
		if got := list(t, dir); strings.Contains(got, readyDir+"/") {
			t.Errorf("%s: left %s", test.name, got)
		}
	}
}

// TestFillFails: a volume that could not be filled is empty.
func TestFillFails(t *testing.T) {
	t.Parallel()
	s := open(t)
	acquire(t, s, Record{Name: "data"})
	err := s.Fill(t.Context(), "data", func(dir *os.File) error {
		write(t, dir.Name(), "half")
		return syscall.ENOSPC
	})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "volume data") {
		t.Errorf("error %v", err)
	}
	if got := list(t, filepath.Dir(s.DataPath("data"))); got != "lock volume.json" {
		t.Errorf("left %s", got)
	}
}

// TestCrowd: of many who use a new volume at once, one makes it and one fills it; who comes later waits for that.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := open(t)
	var made, filled atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			lock, first, err := s.Acquire(context.Background(), Record{Name: "data"})
			if err != nil {
				t.Error(err)
				return
			}
			defer lock.Close()
			if first {
				made.Add(1)
			}
			err = s.Fill(t.Context(), "data", func(dir *os.File) error {
				filled.Add(1)
				write(t, dir.Name(), "a", "b", "c")
				return nil
			})
			if got := list(t, s.DataPath("data")); err != nil || got != "a b c" {
				t.Errorf("found %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || filled.Load() != 1 {
		t.Errorf("made %d times, filled %d times", made.Load(), filled.Load())
	}
}

// TestOpenData: what is mounted is in the volume, whatever links are in it.
func TestOpenData(t *testing.T) {
	t.Parallel()
	s := open(t)
	acquire(t, s, Record{Name: "data"})
	write(t, s.DataPath("data"), "sub/x")
	for link, to := range map[string]string{"up": "../../..", "root": "/", "away": "/etc", "good": "sub"} {
		if err := os.Symlink(to, filepath.Join(s.DataPath("data"), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ subpath, want string }{
		{"", "away good root sub up"},
		{"sub", "x"},
		{"good", "x"},
		{"up", "away good root sub up"},
		{"../..", "away good root sub up"},
		{"root/sub", "x"},
		{"away", "no such file or directory"},
		{"nosuch", `volume data: subpath "nosuch": no such file or directory`},
	} {
		f, err := s.OpenData(t.Context(), "data", test.subpath)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			got = strings.Join(names, " ")
			f.Close()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%q: %s, want %s", test.subpath, got, test.want)
		}
	}
	data := s.DataPath("data")
	if err := errors.Join(os.RemoveAll(data), os.Symlink("/etc", data)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenData(t.Context(), "data", ""); err == nil {
		t.Error("a link was followed that is in the place of the data")
	}
}

func TestParseMount(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ o, want string }{
		{"", "0 0 "},
		{"ro,nosuid,size=1m", "3 0 size=1m"},
		{"defaults,rw,addr=1.2.3.4,soft", "0 0 addr=1.2.3.4,soft"},
		{"noexec,exec,rshared,uid=5", "0 104000 uid=5"},
	} {
		m, err := parseMount(map[string]string{"type": "x", "device": "y", "o": test.o})
		if got := fmt.Sprintf("%x %x %s", m.flags, m.propagation, m.data); err != nil || got != test.want {
			t.Errorf("o=%s: %s, %v; want %s", test.o, got, err, test.want)
		}
	}
}

// TestPasswordsAreNotShown: what cannot be mounted is an error without the password, which is told to whoever reads logs.
func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	m, err := parseMount(map[string]string{"type": "nothing", "device": "//host/x", "o": "username=me,password=secret,Pass=secret2,uid=5"})
	if err != nil {
		t.Fatal(err)
	}
	err = m.do(t.Context(), t.TempDir())
	if text := fmt.Sprint(err); strings.Contains(text, "secret") || !strings.Contains(text, "data: username=me,password=********,Pass=********,uid=5") {
		t.Error(text)
	}
}

// TestDeviceIsUnmounted: a file system is unmounted when the last who has it open is gone, also when nothing of it could be opened.
func TestDeviceIsUnmounted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	s := open(t)
	acquire(t, s, Record{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}})
	is := func(want bool) {
		t.Helper()
		if mounted, err := isMounted(s.DataPath("data")); mounted != want || err != nil {
			t.Errorf("it is mounted: %t, %v; want %t", mounted, err, want)
		}
	}
	t.Cleanup(func() { _ = s.unmountLocked("data") })
	if _, err := s.OpenData(t.Context(), "data", "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a subpath that is not there: %v", err)
	}
	is(false)
	f, err := s.OpenData(t.Context(), "data", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	is(true)
	if err := errors.Join(f.Close(), s.Release(t.Context(), "data")); err != nil {
		t.Fatal(err)
	}
	is(false)
}

// TestSweepWaitsForNobody: who sweeps goes by a volume that another has locked, as long as that may take.
func TestSweepWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := open(t)
	acquire(t, s, Record{Name: "server", Options: map[string]string{"type": "nfs", "o": "addr=192.0.2.1", "device": ":/x"}})
	lock, err := s.Lock(t.Context(), "server")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	left := filepath.Join(s.dir, trashPrefix+"x")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(left); err == nil {
		t.Error("what was left is still there")
	}
}
