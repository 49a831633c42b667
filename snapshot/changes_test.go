package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// textOf is the content of a file of a test.
func textOf(text string) Content {
	return Content{Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

// change applies what commitOps would write: "path/" and "path=text" are put, "-path" is removed.
func apply(t testing.TB, c *Changes, ops ...string) {
	t.Helper()
	for _, op := range ops {
		var err error
		switch name, text, isFile := strings.Cut(op, "="); {
		case strings.HasPrefix(op, "-"):
			err = c.Remove(op[1:])
		case strings.HasSuffix(op, "/"):
			err = c.Put(op[:len(op)-1], mode(unix.S_IFDIR, 0o755), Content{})
		case isFile:
			e := mode(unix.S_IFREG, 0o644)
			e.Size = int64(len(text))
			err = c.Put(name, e, textOf(text))
		}
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
}

// changed is the tar of a layer in few words: "-path" is a whiteout.
func changed(t testing.TB, s *Store, layer image.Layer) string {
	t.Helper()
	f, err := s.layout.OpenTar(context.Background(), layer)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var words []string
	for _, line := range listTar(t, f) {
		path, rest, _ := strings.Cut(line, " ")
		dir, base := filetree.Split(path)
		if name, ok := strings.CutPrefix(base, layertar.WhiteoutPrefix); ok {
			path = "-" + filetree.Join(dir, name)
		}
		if _, target, ok := strings.Cut(rest, " = "); ok {
			path += "=>" + target
		}
		words = append(words, path)
	}
	return strings.Join(words, " ")
}

func TestChanges(t *testing.T) {
	base := []string{"a/", "a/b=1", "a/c/", "a/c/d=1", "a/c/e=1", "f=1", "x/", "x/y=1"}
	for _, test := range []struct {
		name string
		ops  []string
		tar  string // what is written
		tree string // what comes out
	}{
		{"nothing", nil, "", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f=1 x/ x/y=1"},
		{"the same", []string{"a/", "a/b=1", "f=1"}, "", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f=1 x/ x/y=1"},
		{"other content", []string{"a/b=2"}, "a a/b", "a/ a/b=2 a/c/ a/c/d=1 a/c/e=1 f=1 x/ x/y=1"},
		{"new", []string{"a/c/n=2", "n/", "n/m/", "n/m/o=2"}, "a a/c a/c/n n n/m n/m/o", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 a/c/n=2 f=1 n/ n/m/ n/m/o=2 x/ x/y=1"},
		{"removed", []string{"-a/c", "-f"}, "a -a/c -f", "a/ a/b=1 x/ x/y=1"},
		{"removed and put again", []string{"-a/c", "a/c/", "a/c/d=1"}, "a a/c -a/c/e", "a/ a/b=1 a/c/ a/c/d=1 f=1 x/ x/y=1"},
		{"removed, and a directory in it again", []string{"-a", "a/", "a/c/"}, "a -a/b a/c -a/c/d -a/c/e", "a/ a/c/ f=1 x/ x/y=1"},
		{"removed and put again twice", []string{"-a", "a/", "a/"}, "a -a/b -a/c", "a/ f=1 x/ x/y=1"},
		{"put and removed", []string{"n/", "n/m=2", "-n"}, "", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f=1 x/ x/y=1"},
		{"removed, put, removed", []string{"-a", "a=2", "-a"}, "-a", "f=1 x/ x/y=1"},
		{"directory to file", []string{"a=2"}, "a", "a=2 f=1 x/ x/y=1"},
		{"directory to file to directory", []string{"x=2", "x/", "x/z=2"}, "x -x/y x/z", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f=1 x/ x/z=2"},
		{"file to directory", []string{"f/", "f/g=2"}, "f f/g", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f/ f/g=2 x/ x/y=1"},
		{"staged directory to file", []string{"n/", "n/m=2", "n=3"}, "n", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f=1 n=3 x/ x/y=1"},
		{"put twice", []string{"n=2", "n=33"}, "n", "a/ a/b=1 a/c/ a/c/d=1 a/c/e=1 f=1 n=33 x/ x/y=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openStore(t)
			below := commitOps(t, s, base...)
			view := viewOf(t, s, below)
			c := s.NewChanges(view)
			apply(t, c, test.ops...)
			layer, err := s.Commit(context.Background(), c, nil)
			if err != nil {
				t.Fatal(err)
			}
			// A directory that is put with its old metadata is only on the way.
			if got := changed(t, s, layer); got != test.tar {
				t.Errorf("layer has %s, want %s", got, test.tar)
			}
			after := viewOf(t, s, below, layer)
			if got := opsOf(t, after); got != test.tree {
				t.Errorf("tree is  %s\nwant     %s", got, test.tree)
			}
			// The changes said the same before they were committed.
			for _, line := range append(strings.Fields(test.tree), "a", "a/b", "a/c", "a/c/d", "a/c/e", "f", "f/g", "n", "n/m", "x/y", "x/z") {
				path, _, _ := strings.Cut(strings.TrimSuffix(line, "/"), "=")
				before, err1 := c.Lookup(path)
				then, err2 := after.Lstat(path)
				if before.Mode != then.Mode || before.Size != then.Size || errors.Is(err1, fs.ErrNotExist) != errors.Is(err2, fs.ErrNotExist) {
					t.Errorf("Lookup(%s) = %v, %v before, %v, %v after", path, before, err1, then, err2)
				}
			}
		})
	}
}

func TestChangesErrors(t *testing.T) {
	s := openStore(t)
	c := s.NewChanges(viewOf(t, s, commitOps(t, s, "a/", "f=1")))
	file := mode(unix.S_IFREG, 0o644)
	for _, test := range []struct {
		what string
		err  error
		want string
	}{
		{"in nothing", c.Put("n/m", file, Content{}), "put n/m: no such file or directory"},
		{"in a file", c.Put("f/m", file, Content{}), "put f/m: not a directory"},
		{"more than a layer holds", c.Put("big", Entry{Mode: unix.S_IFREG, Size: erofs.MaxTar}, Content{Open: func() (io.ReadCloser, error) { return nil, nil }}), "put big: file too large: 2199023255040 bytes, and a layer has less than 2199023255040"},
		{"a root that is a file", c.Put(".", file, Content{}), "put .: the root can only be a directory"},
		{"a whiteout", c.Put("a/.wh.x", file, Content{}), "a/.wh.x: a name that begins with .wh. says in a layer that a file is removed"},
		{"without content", c.Put("n", Entry{Mode: unix.S_IFREG, Size: 1}, Content{}), "put n: a file of some size needs a content"},
		{"remove nothing", c.Remove("n"), "lstat n: no such file or directory"},
		{"remove the root", c.Remove("."), "remove .: invalid argument"},
	} {
		if got := fmt.Sprint(test.err); got != test.want {
			t.Errorf("%s: %s, want %s", test.what, got, test.want)
		}
	}

	short := mode(unix.S_IFREG, 0o644)
	short.Size = 10
	for size, content := range map[int64]string{10: "short", 1 << 20: "shorter than a stream"} {
		c := s.NewChanges(nil)
		short.Size = size
		if err := c.Put("n", short, textOf(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(context.Background(), c, nil); err == nil || !strings.Contains(err.Error(), "was changed while it was read") {
			t.Errorf("content that is too short: %v", err)
		}
	}
	boom := errors.New("boom")
	c = s.NewChanges(nil)
	for i := range 3000 {
		big := mode(unix.S_IFREG, 0o644)
		big.Size = 3000
		open := textOf(strings.Repeat("x", 3000)).Open
		if i == 2000 {
			open = func() (io.ReadCloser, error) { return nil, boom }
		}
		if err := c.Put(fmt.Sprint(i), big, Content{Open: open}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Commit(context.Background(), c, nil); !errors.Is(err, boom) {
		t.Errorf("a content that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Commit(ctx, c, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a commit that is cancelled: %v", err)
	}
}

func TestChangesLinks(t *testing.T) {
	s := openStore(t)
	put := func(c *Changes, path string, inode uint64, text string) {
		t.Helper()
		e := mode(unix.S_IFREG, 0o644)
		e.Size, e.Inode = int64(len(text)), inode
		content := textOf(text)
		content.Group = "source"
		if err := c.Put(path, e, content); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(c *Changes) image.Layer {
		t.Helper()
		layer, err := s.Commit(context.Background(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		return layer
	}
	c := s.NewChanges(nil)
	put(c, "b", 7, "one")
	put(c, "a", 7, "one")
	put(c, "c", 8, "two")
	base := commit(c)
	if got, want := changed(t, s, base), "a b=>a c"; got != want {
		t.Errorf("layer has %s, want %s", got, want)
	}
	view := viewOf(t, s, base)
	for _, test := range []struct {
		name string
		put  func(c *Changes)
		want string
	}{
		{"the same", func(c *Changes) { put(c, "a", 1, "one"); put(c, "b", 1, "one") }, ""},
		{"another content", func(c *Changes) { put(c, "a", 1, "two"); put(c, "b", 1, "two") }, "a b=>a"},
		{"a further name", func(c *Changes) { put(c, "a", 1, "one"); put(c, "b", 1, "one"); put(c, "d", 1, "one") }, "a b=>a d=>a"},
		{"linked to another", func(c *Changes) { put(c, "a", 1, "one"); put(c, "c", 1, "one") }, "a c=>a"},
		{"one of them", func(c *Changes) { put(c, "a", 1, "one") }, ""},
		{"another name that is gone", func(c *Changes) {
			apply(t, c, "d/")
			put(c, "d/e", 1, "two")
			put(c, "c", 1, "two")
			apply(t, c, "d=file")
		}, "d"},
		{"another inode", func(c *Changes) { put(c, "a", 1, "one"); put(c, "b", 2, "one") }, ""},
	} {
		c := s.NewChanges(view)
		test.put(c)
		if got := changed(t, s, commit(c)); got != test.want {
			t.Errorf("%s: layer has %s, want %s", test.name, got, test.want)
		}
	}
}

func TestChangesEpoch(t *testing.T) {
	s := openStore(t)
	c := s.NewChanges(nil)
	for name, sec := range map[string]int64{"early": 5, "late": 500} {
		e := mode(unix.S_IFDIR, 0o755)
		e.ModTime = time.Unix(sec, 9)
		if err := c.Put(name, e, Content{}); err != nil {
			t.Fatal(err)
		}
	}
	epoch := time.Unix(100, 0)
	layer, err := s.Commit(context.Background(), c, &epoch)
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(t, s, layer)
	for name, want := range map[string]time.Time{"early": time.Unix(5, 9), "late": epoch} {
		if e, err := v.Lstat(name); err != nil || !e.ModTime.Equal(want) {
			t.Errorf("%s is of %v, want %v (%v)", name, e.ModTime, want, err)
		}
	}
}
