package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/internal/flock"
)

func stage(t *testing.T, s *Staging, final, content string) {
	t.Helper()
	f, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(final); err != nil {
		t.Fatal(err)
	}
}

func openStaging(t *testing.T, root string) *Staging {
	t.Helper()
	s, err := OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStagingPublish(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	a, b := filepath.Join(root, "x/y/a"), filepath.Join(root, "b")
	stage(t, s, a, "old")
	stage(t, s, a, "new")
	stage(t, s, b, "b")

	path, err := s.Lookup(a)
	if err != nil || path == a || read(t, path) != "new" {
		t.Errorf("Lookup before Publish = %q, %v, content %q", path, err, read(t, path))
	}
	if _, err := os.Stat(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("final path before Publish: %v, want not exist", err)
	}
	if err := s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if path, err := s.Lookup(a); err != nil || path != a || read(t, a) != "new" {
		t.Errorf("Lookup after Publish = %q, %v, content %q", path, err, read(t, a))
	}
	for path, mode := range map[string]fs.FileMode{a: 0o600, filepath.Dir(a): 0o700 | fs.ModeDir, filepath.Join(root, "ingest"): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v (%v), want %v", path, info.Mode(), err, mode)
		}
	}
	if _, err := s.Lookup(filepath.Join(root, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lookup of nothing: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "ingest")); len(left) != 0 {
		t.Errorf("Close left %v", left)
	}
	if _, err := s.Create(); !errors.Is(err, errStagingClosed) {
		t.Errorf("Create after Close: %v", err)
	}
}

// A meanwhile is a context that does something when it is asked for its error first.
type meanwhile struct {
	context.Context
	do func()
}

func (m *meanwhile) Err() error {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.Context.Err()
}

// TestStagingPublishReplaced: a file that is committed again while it is published is at its place, too, when Publish returns.
func TestStagingPublishReplaced(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	stage(t, s, a, "old")
	stage(t, s, b, "b")
	if err := s.Publish(&meanwhile{t.Context(), func() { stage(t, s, a, "new") }}); err != nil {
		t.Fatal(err)
	}
	if read(t, a) != "new" || read(t, b) != "b" || len(s.files) != 0 {
		t.Errorf("%q and %q are there, and %d files are staged", read(t, a), read(t, b), len(s.files))
	}
}

// TestStagingPublishLost: files that could not be synced are not left for another process to adopt.
func TestStagingPublishLost(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	a := filepath.Join(root, "a")
	stage(t, s, a, "a")
	s.files[a].file.Close() // so that it cannot be synced
	if err := s.Publish(t.Context()); err == nil {
		t.Error("published what is not durable")
	}
	if adopted, err := openStaging(t, root).adopt(a); adopted || err != nil {
		t.Errorf("another process has adopted what may be lost, or %v", err)
	}
}

func TestStagingDiscards(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	f, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(filepath.Join(root, "../outside")); err == nil {
		t.Error("Commit outside the state directory succeeded")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "ingest/*/*")); len(left) != 0 {
		t.Errorf("discarded file left %v", left)
	}
	stage(t, s, filepath.Join(root, "c"), "c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Publish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish with a cancelled context: %v", err)
	}
	s.Close()
	if _, err := os.Stat(filepath.Join(root, "c")); err == nil {
		t.Error("Close published a file")
	}
}

func TestStagingConcurrent(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				final := filepath.Join(root, fmt.Sprint("d", i%7), fmt.Sprint("f", i)) // all goroutines make the same files
				stage(t, s, final, fmt.Sprint(i))
				f, err := s.Open(final)
				if err != nil {
					t.Errorf("open %s: %v", final, err)
					return
				}
				var b [4]byte
				n, _ := f.Read(b[:])
				f.Close()
				if got := string(b[:n]); got != fmt.Sprint(i) {
					t.Errorf("%s holds %q", final, got)
				}
				if i%10 == g {
					if err := s.Publish(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if got := read(t, filepath.Join(root, fmt.Sprint("d", i%7), fmt.Sprint("f", i))); got != fmt.Sprint(i) {
			t.Errorf("file %d holds %q", i, got)
		}
	}
}

// TestStagingOfAnotherProcess runs itself as a process that stages a file and dies by SIGKILL or waits.
func TestStagingOfAnotherProcess(t *testing.T) {
	t.Parallel()
	if root := os.Getenv("STAGING_ROOT"); root != "" {
		s, _ := OpenStaging(root)
		stage(t, s, filepath.Join(root, "theirs"), "theirs")
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1))
		return // the test binary ends without Close, as a killed process does
	}
	root := t.TempDir()
	other := exec.Command(os.Args[0], "-test.run=^TestStagingOfAnotherProcess$")
	other.Env = append(os.Environ(), "STAGING_ROOT="+root)
	stdin, _ := other.StdinPipe()
	stdout, _ := other.StdoutPipe()
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Read(make([]byte, 6))

	s := openStaging(t, root)
	final := filepath.Join(root, "theirs")
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.adopt(final); !ok || err != nil {
		t.Errorf("Adopt of a living process's file = %v, %v", ok, err)
	}
	if ok, err := s.adopt(filepath.Join(root, "nobody's")); ok || err != nil {
		t.Errorf("Adopt of nothing = %v, %v", ok, err)
	}
	stdin.Close()
	other.Process.Kill()
	other.Wait()

	third := openStaging(t, root)
	s.Close()
	if ok, err := third.adopt(final); ok || err != nil {
		t.Errorf("Adopt of a dead process's file = %v, %v", ok, err)
	}
	if err := third.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(root, "ingest")); len(left) != 0 {
		t.Errorf("Sweep left %v", left)
	}
}

// TestStagingsBegin has many begin at once, each of which sweeps what it takes for dead.
func TestStagingsBegin(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for range 100 {
				st, err := OpenStaging(root)
				if err != nil {
					return err
				}
				f, err := st.Create()
				if err != nil {
					return err
				}
				if err := errors.Join(f.Close(), st.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestOwn holds that a state directory that is owned is nobody else's, and that what was written beside comes in as a blob.
func TestOwn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	st, err := OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Own(); err != nil {
		t.Fatal(err)
	}
	other, err := OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Own(); !errors.Is(err, flock.ErrHeld) {
		t.Errorf("a second owner: %v, want ErrHeld", err)
	}
	l, err := OpenLayout(root, st)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("content")
	for range 2 { // the second finds it there
		path := filepath.Join(root, "upload")
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.PushFile(t.Context(), d, path), l.Publish(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the file is still in its place")
		}
		if got := read(t, l.BlobPath(d)); got != "content" {
			t.Errorf("blob is %q", got)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := other.Own(); err != nil {
		t.Errorf("after the owner has closed: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// TestStagingLetsGo holds that files which are kept open to be synced are not kept for longer, whether they are few, many, staged twice,
// discarded, or never published.
func TestStagingLetsGo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openStaging(t, root)
	stage := func(name, content string) string {
		t.Helper()
		path := filepath.Join(root, "d", name)
		if err := stageAt(s, path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, n := range []int{1, few, few + 5} {
		s.Also(filepath.Join(root, "gone before it is synced"))
		s.Also(filepath.Join(root, "d"))
		for i := range n {
			stage(fmt.Sprint(n, " ", i), "old")
			stage(fmt.Sprint(n, " ", i), "new")
		}
		if err := s.Discard(stage("gone", "")); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if got := read(t, filepath.Join(root, "d", fmt.Sprint(n, " ", i))); got != "new" {
				t.Errorf("file %d of %d holds %q", i, n, got)
			}
		}
	}
	stage("left", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range open {
		if at, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.HasPrefix(at, root) {
			t.Errorf("%s is still open", at)
		}
	}
}

// stageAt stages the file path with data.
func stageAt(s *Staging, path string, data []byte) (err error) {
	f, err := s.Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit(path)
}
