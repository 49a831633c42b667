package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/internal/durable"
)

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// onlyFile fails the test if a directory holds anything else, such as a temporary file.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("%s is left beside %s", e.Name(), path)
		}
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, write := range []func(string, []byte, fs.FileMode) error{durable.WriteFile, durable.ReplaceFile} {
		for _, text := range []string{"one", "two"} {
			if err := write(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := content(t, path); got != text {
				t.Errorf("content %q, want %q", got, text)
			}
			onlyFile(t, path)
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode())
	}
}

// TestClose: a file that is not committed changes nothing, and Close after Commit does nothing.
func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		end  func(*durable.File) error
		want string
	}{
		{(*durable.File).Close, "old"},
		{(*durable.File).Commit, "new"},
	} {
		f, err := durable.Create(path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != "old" {
			t.Errorf("content %q before the end, want the old one", got)
		}
		if err := errors.Join(test.end(f), f.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != test.want {
			t.Errorf("content %q, want %q", got, test.want)
		}
		if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Commit after the end: %v, want os.ErrClosed", err)
		}
		onlyFile(t, path)
	}
}

// TestCommitFails: when the place is taken by a directory, nothing is left.
func TestCommitFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, nil, 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	onlyFile(t, path)
}

func TestSweep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := durable.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// As a process that was killed leaves it.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), durable.Prefix+"dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := durable.Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Sweep(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("alive")); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Errorf("the sweep took a file that is being written: %v", err)
	}
	onlyFile(t, path)
	if got := content(t, path); got != "alive" {
		t.Errorf("content %q", got)
	}
	if err := durable.Sweep(filepath.Join(path, "none")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Log(err) // under a file there is no directory
	}
	if err := durable.Sweep(filepath.Join(filepath.Dir(path), "none")); err != nil {
		t.Errorf("a directory that does not exist: %v", err)
	}
}
