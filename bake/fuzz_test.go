package bake_test

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/forge-build/forge/bake"
)

// FuzzRead holds that no text makes the readers of bake files do anything but answer or refuse, and that what was printed can be read again.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name != "args" {
				f.Add(file.Data)
			}
		}
	}
	f.Add([]byte(`a = "${b}${b}"` + "\nb = [for x in range(1000) : [for y in range(1000) : x]]\ntarget \"default\" {\n args = { a = a }\n}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte("bcrypt")) { // slow on purpose
			return
		}
		t.Chdir(t.TempDir())
		began := time.Now()
		first := readText(t, text)
		if took := time.Since(began); took > 20*time.Second {
			t.Fatalf("took %s", took)
		}
		if first == nil || bytes.Contains(text, []byte("timestamp")) || bytes.Contains(text, []byte("uuid")) {
			return
		}
		var b bytes.Buffer
		if err := first.Print(&b); err != nil {
			t.Fatal(err)
		}
		again, err := bake.Read(bake.Options{Files: []string{"-"}, Stdin: bytes.NewReader(b.Bytes())})
		if err != nil {
			t.Fatalf("%s\ncannot be read again: %v", b.Bytes(), err)
		}
		second, err := again.Select(nil, nil)
		if err != nil {
			t.Fatalf("%s\ncannot be selected again: %v", b.Bytes(), err)
		}
		var c bytes.Buffer
		if err := second.Print(&c); err != nil || !bytes.Equal(b.Bytes(), c.Bytes()) {
			t.Fatalf("%s\nis read again as\n%s", b.Bytes(), c.Bytes())
		}
	})
}

func readText(t *testing.T, text []byte) *bake.Selection {
	t.Helper()
	f, err := bake.Read(bake.Options{Files: []string{"-"}, Stdin: io.Reader(bytes.NewReader(text))})
	if err != nil {
		return nil
	}
	s, err := f.Select(nil, nil)
	if err != nil {
		return nil
	}
	return s
}
