package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/flock"
)

func create(t *testing.T, s *Store[string], name string) *Record[string] {
	t.Helper()
	r := &Record[string]{ID: NewID(), Name: name, Created: time.Now(), Config: "config of " + name}
	if err := s.Create(t.Context(), r, func() string { return "name" + NewID()[:6] }); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNames: a name is one container's at a time, and belongs to nobody when that one is gone.
func TestNames(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	a := create(t, s, "web")
	_, isTaken := errors.AsType[*NameTakenError](s.Create(t.Context(), &Record[string]{ID: NewID(), Name: "web"}, nil))
	if !isTaken {
		t.Error("a second container got the name of the first")
	}
	b := create(t, s, "")
	if err := s.Rename(t.Context(), b.ID, "web"); err == nil {
		t.Error("a container was given the name of another")
	}
	if err := s.Rename(t.Context(), a.ID, "old"); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename(t.Context(), b.ID, "web"); err != nil {
		t.Errorf("a name that was given up: %v", err)
	}
	if err := s.Remove(t.Context(), b.ID, os.RemoveAll); err != nil {
		t.Fatal(err)
	}
	if c := create(t, s, "web"); c.Name != "web" {
		t.Errorf("the name of a container that is gone: %s", c.Name)
	}
	if entries, _ := os.ReadDir(s.dir); len(entries) != 4 { // two containers, names and their lock
		t.Errorf("%d files are left", len(entries))
	}
}

// TestLeftNames: a name that a killed process has left with a container is not the container's.
func TestLeftNames(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	a, b := create(t, s, "web"), create(t, s, "db")
	for _, left := range []string{"site", "shop"} { // of a rename that was killed before or after the record was written
		if err := os.Symlink(a.ID, filepath.Join(s.namesDir(), left)); err != nil {
			t.Fatal(err)
		}
		if id, err := s.Find(left); err == nil {
			t.Errorf("%s means %s", left, id)
		}
	}
	if err := s.Rename(t.Context(), a.ID, "site"); err != nil {
		t.Errorf("the same rename again: %v", err)
	}
	if err := s.Rename(t.Context(), b.ID, "shop"); err != nil {
		t.Errorf("a name that was left: %v", err)
	}
	if id, err := s.Find("site"); err != nil || id != a.ID {
		t.Errorf("site means %s, %v", id, err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	one := &Record[string]{ID: strings.Repeat("ab", 32), Name: "one"}
	two := &Record[string]{ID: "abcd" + strings.Repeat("0", 60), Name: "abab"}
	for _, r := range []*Record[string]{one, two} {
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	for ref, want := range map[string]string{
		"one": one.ID, "/one": one.ID, one.ID: one.ID, "ababa": one.ID, "abcd": two.ID,
		"abab": two.ID, // a name counts before a prefix
		"ab":   "multiple IDs found with provided prefix: ab",
		"zz":   "No such container: zz", "": "No such container: ", "../one": "No such container: ../one", "ff": "No such container: ff",
	} {
		got, err := s.Find(ref)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("Find(%q) = %s, want %s", ref, got, want)
		}
	}
}

// TestCrowd: of many processes that want one name, one gets it; and of those that remove one container, one does.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	var got, gone sync.Map
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			r := &Record[string]{ID: NewID(), Name: "web"}
			if s.Create(context.Background(), r, nil) == nil {
				got.Store(i, r.ID)
			}
		})
	}
	wg.Wait()
	winners, id := 0, ""
	got.Range(func(_, v any) bool { winners++; id, _ = v.(string); return true })
	if winners != 1 {
		t.Fatalf("%d containers of one name", winners)
	}
	for i := range 20 {
		wg.Go(func() {
			lock, err := s.Lock(context.Background(), id)
			if err != nil {
				return
			}
			defer lock.Close()
			if s.Remove(context.Background(), id, os.RemoveAll) == nil {
				gone.Store(i, true)
			}
		})
	}
	wg.Wait()
	removed := 0
	gone.Range(func(any, any) bool { removed++; return true })
	if removed != 1 {
		t.Errorf("removed %d times", removed)
	}
}

// TestDerived: what a container does is what its run and its locks say, also when its monitor was killed or the machine was
// started anew.
func TestDerived(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	for name, c := range map[string]struct {
		run       *Run // nil: none was written
		monitored bool
		want      Status
		code      int
	}{
		"never started":              {nil, false, Created, 0},
		"starts":                     {nil, true, Created, 0},
		"runs":                       {&Run{Boot: BootID(), Started: now}, true, Running, 0},
		"paused":                     {&Run{Boot: BootID(), Started: now, Paused: true}, true, Paused, 0},
		"to be restarted":            {&Run{Boot: BootID(), Started: now, Finished: now.Add(1), ExitCode: 3, Retry: now.Add(time.Hour)}, true, Restarting, 3},
		"ended":                      {&Run{Boot: BootID(), Started: now, Finished: now.Add(1), ExitCode: 5}, false, Exited, 5},
		"ended, starts again":        {&Run{Boot: BootID(), Started: now, Finished: now.Add(1), ExitCode: 5}, true, Exited, 5},
		"monitor was killed":         {&Run{Boot: BootID(), Started: now}, false, Exited, killed},
		"killed while paused":        {&Run{Boot: BootID(), Started: now, Paused: true}, false, Exited, killed},
		"killed before a restart":    {&Run{Boot: BootID(), Started: now, Finished: now.Add(1), ExitCode: 3, Retry: now}, false, Exited, 3},
		"machine was started anew":   {&Run{Boot: "another", Started: now}, false, Exited, killed},
		"runs for the second time":   {&Run{Boot: BootID(), Started: now, Finished: now.Add(-time.Hour)}, true, Running, 0},
		"killed in the second run":   {&Run{Boot: BootID(), Started: now, Finished: now.Add(-time.Hour)}, false, Exited, killed},
		"a start that failed":        {&Run{Error: "no such file", ExitCode: 127}, false, Created, 127},
		"restart that could not run": {&Run{Started: now, Finished: now.Add(1), ExitCode: 127, Restarts: 2}, false, Exited, 127},
	} {
		s := Open[string](filepath.Join(t.TempDir(), "containers"))
		r := create(t, s, "")
		if c.run != nil {
			if err := s.WriteRun(r.ID, c.run); err != nil {
				t.Fatal(err)
			}
		}
		if c.monitored {
			alive, err := s.Monitor(t.Context(), r.ID)
			if err != nil {
				t.Fatal(err)
			}
			defer alive.Close()
		}
		for range 2 { // a second look finds what the first has written down
			run, got, err := s.Run(r.ID)
			if err != nil || got != c.want || run.ExitCode != c.code {
				t.Errorf("%s: %v, status %s (%d), want %s (%d)", name, err, got, run.ExitCode, c.want, c.code)
			}
			if got == Exited && run.Boot == "another" && !strings.Contains(run.Error, "anew") {
				t.Errorf("%s: error %q", name, run.Error)
			}
		}
	}
}

// TestClockSetBack: a run that began before the clock was set back, or ended after that, is what it is.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	r := create(t, s, "")
	later := time.Now().Add(time.Hour).UTC()
	run := &Run{Boot: BootID(), Started: later, Finished: later.Add(time.Minute)}
	want := func(want Status) {
		t.Helper()
		if err := s.WriteRun(r.ID, run); err != nil {
			t.Fatal(err)
		}
		if _, got, err := s.Run(r.ID); err != nil || got != want {
			t.Errorf("status %s, %v, want %s", got, err, want)
		}
	}
	alive, err := s.Monitor(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	run.Begin()
	want(Running)
	run.Started = later
	run.End()
	want(Exited)
	run.Started = later.Add(time.Hour)
	if err := s.WriteRun(r.ID, run); err != nil {
		t.Fatal(err)
	}
	alive.Close() // killed
	for range 2 {
		if run, got, err := s.Run(r.ID); err != nil || got != Exited || run.ExitCode != killed {
			t.Errorf("killed: %s, %+v, %v", got, run, err)
		}
	}
}

// TestMonitor: a container has one monitor, and who asks for its state keeps nobody from becoming it.
func TestMonitor(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	r := create(t, s, "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _, _ = s.Run(r.ID)
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	for i := range 50 {
		alive, err := s.Monitor(t.Context(), r.ID)
		if err != nil {
			t.Fatalf("monitor %d: %v", i, err)
		}
		if err := s.WriteRun(r.ID, &Run{Started: time.Now(), Boot: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Monitor(t.Context(), r.ID); !errors.Is(err, flock.ErrHeld) {
			t.Fatalf("a second monitor: %v", err)
		}
		if _, status, _ := s.Run(r.ID); status != Running {
			t.Fatalf("status %s while there is a monitor", status)
		}
		if err := s.WriteRun(r.ID, &Run{Started: time.Now(), Finished: time.Now().Add(1)}); err != nil {
			t.Fatal(err)
		}
		alive.Close()
	}
}

// TestRemoved: who has found a container and looks at it when it has been removed is told that it is not there.
func TestRemoved(t *testing.T) {
	t.Parallel()
	s := Open[string](filepath.Join(t.TempDir(), "containers"))
	r := create(t, s, "one")
	lock, err := s.Lock(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Remove(t.Context(), r.ID, os.RemoveAll), lock.Close()); err != nil {
		t.Fatal(err)
	}
	_, recordErr := s.Record(r.ID)
	_, _, runErr := s.Run(r.ID)
	changeErr := s.Change(t.Context(), r.ID, func(*Record[string]) error { return nil })
	for what, err := range map[string]error{"record": recordErr, "run": runErr, "change": changeErr} {
		if gone, ok := errors.AsType[*NotFoundError](err); !ok || gone.Ref != r.ID || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want that there is no such container", what, err)
		}
	}
}
