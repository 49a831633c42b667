package source

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source/sourcetest"
)

// An endlessFile has what at gives, for ever. It calls read before each read.
type endlessFile struct {
	at   func(p []byte, off int64)
	read func()
	off  int64
}

func (f *endlessFile) ReadAt(p []byte, off int64) (int, error) {
	f.read()
	f.at(p, off)
	return len(p), nil
}

func (f *endlessFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *endlessFile) Close() error { return nil }

// cancelled is a context that ends when its function has been called a few times.
func cancelled(t *testing.T, why error) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	return ctx, func() {
		if calls++; calls == 5 {
			cancel(why)
		}
	}
}

// longNames is a tar that never comes to an entry: headers of type L, each before the next.
func longNames(t *testing.T) []byte {
	h := sourcetest.File(strings.Repeat("x", 300), "")
	h.Format = tar.FormatGNU
	b := sourcetest.Tar(t, h)
	if b[156] != 'L' {
		t.Fatalf("header of type %c", b[156])
	}
	return b[:1024]
}

// TestCancelledRead holds that reading a file that never ends, for its digest or as an archive, ends when the build is cancelled.
func TestCancelledRead(t *testing.T) {
	why := errors.New("the user has had enough")
	names := longNames(t)
	for what, f := range map[string]func(ctx context.Context, tree filetree.Tree) error{
		"digest": func(ctx context.Context, tree filetree.Tree) error {
			_, err := tree.Sum(ctx, "f")
			return err
		},
		"digests": func(ctx context.Context, tree filetree.Tree) error { return filetree.Hash(ctx, tree, []string{"f"}) },
		"archive": func(ctx context.Context, tree filetree.Tree) error {
			_, err := IsArchive(ctx, tree, "f")
			return err
		},
		"unpack": func(ctx context.Context, tree filetree.Tree) error {
			_, layout := testStore(t)
			a, err := OpenArchive(ctx, layout, tree, "f")
			must(t, err)
			defer a.Close() //nolint:errcheck
			return a.Unpack(ctx, Unpacking{Root: "."})
		},
	} {
		ctx, read := cancelled(t, why)
		file := &endlessFile{read: read, at: func(p []byte, off int64) {
			for i := range p {
				p[i] = names[(off+int64(i))%1024]
			}
		}}
		tree := NewFile(filetree.Entry{Name: "f", Size: 1 << 60}, func() (filetree.File, error) { return file, nil })
		if err := f(ctx, tree); !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", what, err, why)
		}
	}

	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "f"), nil, 0o644))
	must(t, os.Truncate(filepath.Join(root, "f"), 8<<40))
	d, err := OpenDir(root, nil, "")
	must(t, err)
	defer d.Close() //nolint:errcheck
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := d.Sum(ctx, "f"); !errors.Is(err, why) {
		t.Errorf("digest of a file of 8 TiB: %v, want %v", err, why)
	}
}

// TestHeadersWithoutEnd holds that what a small file inflates to is not read for ever to find out whether it is an archive.
func TestHeadersWithoutEnd(t *testing.T) {
	w, err := zstd.NewWriter(nil)
	must(t, err)
	for size, want := range map[int]bool{1 << 20: true, 20 << 20: false} {
		var b bytes.Buffer
		b.Write(bytes.Repeat(longNames(t), size/1024))
		b.Write(sourcetest.Tar(t, sourcetest.File("f", "1")))
		root := t.TempDir()
		must(t, os.WriteFile(filepath.Join(root, "f"), w.EncodeAll(b.Bytes(), nil), 0o644))
		d, err := OpenDir(root, nil, "")
		must(t, err)
		got, err := IsArchive(t.Context(), d, "f")
		must(t, err)
		if got != want {
			t.Errorf("after %s of headers: is an archive: %v, want %v", fmt.Sprint(size>>20, " MiB"), got, want)
		}
		must(t, d.Close())
	}
}

// TestManyPatterns holds that ignore patterns and those of --exclude have a limit, and that reading a directory with them heeds the context.
func TestManyPatterns(t *testing.T) {
	root := sourcetest.Write(t, "f =1")
	many := strings.Split(strings.Repeat("?a\n", 10_001)+"f", "\n")
	for _, test := range []struct {
		list []string
		want string
	}{
		{many, "10002 patterns of 20003 bytes together: there may be 10000 of 524288"},
		{[]string{"f", strings.Repeat("?", 5000)}, "a pattern of 5000 bytes"},
		{strings.Split(strings.Repeat(strings.Repeat("?", 4000)+"\n", 200)+"f", "\n"), "201 patterns of 800001 bytes"},
	} {
		if _, err := OpenDir(root, test.list, ""); err == nil || !strings.Contains(err.Error(), "ignore patterns: "+test.want) {
			t.Errorf("a directory: %v, want %s", err, test.want)
		}
		d, err := OpenDir(root, nil, "")
		must(t, err)
		found, err := Select(t.Context(), d, Query{Path: "/", Exclude: test.list})
		must(t, err)
		if err := found[0].Walk(t.Context(), func(*Item) error { return nil }); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("--exclude: %.100v, want %s", err, test.want)
		}
		must(t, d.Close())
	}
	if _, err := new(Source).lentIgnore(t.Context(), "d", []byte(strings.Join(many, "\n"))); err == nil || !strings.Contains(err.Error(), "10002 patterns") {
		t.Errorf("a lent directory: %v", err)
	}

	why := errors.New("the user has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	d, _, err := (*Shared)(nil).open(ctx, root, []string{"x?"}, "")
	must(t, err)
	defer d.Close() //nolint:errcheck
	cancel(why)
	if _, err := d.Lstat("f"); !errors.Is(err, why) {
		t.Errorf("a directory, when the build was cancelled: %v, want %v", err, why)
	}
}
