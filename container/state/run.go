package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
)

// A Run is how the last run of a container went, or goes. Its monitor writes it.
type Run struct {
	Boot     string      // ID of the boot in which it was started
	Ref      runtime.Ref // the container's first process, for who joins it
	Monitor  int         // process ID of the monitor
	Started  time.Time   // zero if the container was never started
	Finished time.Time   // of this run or, while that goes on, of the one before
	ExitCode int
	OOM      bool      // the kernel killed something in it for want of memory
	Error    string    // why the last start failed
	Restarts int       // by the restart policy, since the last start by a user
	Retry    time.Time // when the restart policy starts it again; zero if it does not
	Stopped  bool      // a user ended it: the restart policy rests
	Paused   bool
	Health   *Health
	Networks map[string]Endpoint // by the network's name
	Ports    []words.Port        // that are published
}

// An Endpoint is a container's place in a network, while it runs.
type Endpoint struct {
	ID        string // 64 hex digits
	NetworkID string
	Address   string // with the length of the prefix
	Gateway   string
	Address6  string
	Gateway6  string
	MAC       string
	Aliases   []string
}

// Health is what the health check has found.
type Health struct {
	Status        string // starting, healthy or unhealthy
	FailingStreak int
	Log           []HealthResult // the last five
}

// A HealthResult is what one run of a health check has found.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string // at most 4096 bytes
}

// A Status is docker's word for what a container does.
type Status string

// The states of a container.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Exited     Status = "exited"
	Dead       Status = "dead" // its record cannot be read
)

// Alive reports whether the container runs, paused or not.
func (s Status) Alive() bool { return s == Running || s == Paused }

// Run reads how the last run of a container went, and what the container does now.
func (s *Store[C]) Run(id string) (*Run, Status, error) {
	for range 2 {
		r, err := s.readRun(id)
		if err != nil {
			return nil, Dead, s.gone(id, err)
		}
		if !r.open() {
			return r, r.status(), nil
		}
		if s.monitored(id) {
			return r, r.status(), nil
		}
		// The monitor may have ended in good order between the two looks: then the second one sees that.
	}
	r, err := s.bury(id)
	if err != nil {
		return nil, Dead, s.gone(id, err)
	}
	return r, r.status(), nil
}

// open reports whether the run still needs a monitor.
func (r *Run) open() bool { return r.Started.After(r.Finished) || !r.Retry.IsZero() }

func (r *Run) status() Status {
	switch {
	case !r.Retry.IsZero():
		return Restarting
	case r.Started.After(r.Finished) && r.Paused:
		return Paused
	case r.Started.After(r.Finished):
		return Running
	case r.Started.IsZero():
		return Created
	}
	return Exited
}

func (s *Store[C]) readRun(id string) (*Run, error) {
	r := new(Run)
	err := readJSON(filepath.Join(s.Dir(id), runFile), r)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(s.Dir(id)); err != nil {
			return nil, err
		}
		return r, nil // it was never started
	}
	return r, err
}

func (s *Store[C]) monitored(id string) bool { return flock.Held(filepath.Join(s.Dir(id), aliveFile)) }

// killed is the exit status of a container whose end nobody has seen: it was killed, with its monitor or with the machine.
const killed = 137

// bury writes down that a container has ended whose monitor is gone.
func (s *Store[C]) bury(id string) (*Run, error) {
	lock, err := flock.TryLock(filepath.Join(s.Dir(id), aliveFile), flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) { // by somebody who does the same, or a new monitor
		return s.readRun(id)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	r, err := s.readRun(id)
	if err != nil || !r.open() {
		return r, err
	}
	r.kill()
	r.end()
	_ = s.WriteRun(id, r) // on a disk that is full, whoever looks next finds out the same
	return r, nil
}

// Begin notes that the container has been started, now.
func (r *Run) Begin() {
	r.Started = time.Now().UTC()
	if !r.Started.After(r.Finished) { // the clock was set back
		r.Finished = r.Started.Add(-1)
	}
}

// End notes that the run has ended, now.
func (r *Run) End() {
	r.Finished = time.Now().UTC()
	if !r.Finished.After(r.Started) { // the clock was set back
		r.Finished = r.Started.Add(1)
	}
}

// kill ends what a monitor that was killed may have left in a freezer, where nothing dies of itself.
func (r *Run) kill() {
	if r.Boot != BootID() {
		return
	}
	if t, err := runtime.Open(r.Ref); err == nil {
		_ = errors.Join(t.Signal(unix.SIGKILL), t.Close()) // it may be gone by now
	}
}

// end notes that the run has ended and nobody knows how.
func (r *Run) end() {
	r.Error = "its monitor was killed"
	if r.Boot != BootID() {
		r.Error = "the machine was started anew"
	}
	if r.Started.After(r.Finished) {
		r.ExitCode = killed
		r.End()
	}
	r.Ref, r.Retry, r.Paused, r.Monitor, r.Networks, r.Ports = runtime.Ref{}, time.Time{}, false, 0, nil, nil
}

// WriteRun writes how a run goes. Only the monitor, or who holds the container's lock while there is none, may do so. What is
// written survives the end of any process, but a power cut only after Sync.
func (s *Store[C]) WriteRun(id string, r *Run) error {
	return writeJSON(filepath.Join(s.Dir(id), runFile), r, durable.ReplaceFile)
}

// Sync makes durable what was written of a run.
func (s *Store[C]) Sync(id string) error {
	f, err := os.Open(filepath.Join(s.Dir(id), runFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the container is gone
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.SyncDir(s.Dir(id))
}

// monitorTime is how long the monitor of a run that has ended may take to take it down.
const monitorTime = 20 * time.Second

// Monitor makes the calling process the monitor of a container, until the file is closed. The caller holds the container's
// lock. It fails with an error that is flock.ErrHeld if the container has a monitor.
func (s *Store[C]) Monitor(ctx context.Context, id string) (*os.File, error) {
	path := filepath.Join(s.Dir(id), aliveFile)
	for began := time.Now(); ; {
		f, err := flock.TryLock(path, flock.Exclusive)
		if !errors.Is(err, flock.ErrHeld) {
			return f, err
		}
		// Somebody who asks whether there is a monitor holds it for a moment.
		r, readErr := s.readRun(id)
		if readErr != nil || r.open() {
			return nil, errors.Join(err, readErr)
		}
		if time.Since(began) > monitorTime {
			return nil, fmt.Errorf("the monitor of the last run has not ended in %s: %w", monitorTime, err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// LockFile is what Lock locks.
func (s *Store[C]) LockFile(id string) string { return filepath.Join(s.Dir(id), lockFile) }

// NamesLockFile is what is locked while names and records change.
func (s *Store[C]) NamesLockFile() string { return filepath.Join(s.dir, "names.lock") }

// KillMonitor kills the monitor of a container, and with it the container, and waits until it is gone.
func (s *Store[C]) KillMonitor(ctx context.Context, id string) error {
	r, err := s.readRun(id)
	if err != nil {
		return err
	}
	path := filepath.Join(s.Dir(id), aliveFile)
	if r.Monitor <= 1 || !opens(r.Monitor, path) { // the number may be another's in this pid namespace
		return fmt.Errorf("the monitor is not process %d", r.Monitor)
	}
	if err := unix.Kill(r.Monitor, unix.SIGKILL); err != nil {
		return err
	}
	alive, err := flock.Lock(ctx, path, flock.Exclusive)
	if err != nil {
		return err
	}
	return alive.Close()
}

// opens reports whether a process has a file open.
func opens(pid int, path string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	want, err := os.Stat(path)
	return err == nil && slices.ContainsFunc(links, func(l string) bool {
		got, err := os.Stat(l)
		return err == nil && os.SameFile(got, want)
	})
}

// BootID tells one run of the machine's kernel from another.
func BootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
