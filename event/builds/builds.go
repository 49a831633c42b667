// Package builds keeps the event streams of the last builds, each in a file of its own: what a build did, with the whole log of each
// step, can be read when it is over.
//
// A file has one event a line, as JSON, the first of kind Begun and the last of kind Ended; a build that was killed has no last one. What
// a step is stands in the first event of it; the others have its number.
// Its name is the time at which the build began and the build's ID, so that names in order are builds in order. The file of a build
// that runs is locked. Nothing is synced: after a power cut the last builds may be missing.
package builds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/flock"
)

const (
	// MaxBuilds is how many builds are kept.
	MaxBuilds = 20
	// maxBytes is how much the files of all builds may have together; the last build stays whatever it has.
	maxBytes = 64 << 20
	// maxBuild is how much one build may have. Log lines beyond it are dropped.
	maxBuild = 32 << 20

	suffix   = ".jsonl"
	timeForm = "20060102T150405.000000"
)

// A Store is the directory with the files. Safe for concurrent use, by processes too.
type Store struct{ dir string }

// Open returns the builds kept in a directory, which the first build makes.
func Open(dir string) Store { return Store{dir} }

// A State says how a build stands.
type State string

// The states of builds.
const (
	Running   State = "running"
	Completed State = "completed"
	Errored   State = "error"
	Canceled  State = "canceled"
	Killed    State = "killed" // it has no end, and does not run any more
)

// A Record is what is known of a build without reading all of its events.
type Record struct {
	ID    string
	State State
	Begin *event.BuildInfo
	Time  time.Time   // at which it began
	End   event.Event // of kind Ended; zero while there is none
	Bytes int64       // of its file
	path  string
}

// Duration is what the build took, or has taken so far; 0 if it was killed.
func (r *Record) Duration(now time.Time) time.Duration {
	switch r.State {
	case Running:
		return now.Sub(r.Time)
	case Killed:
		return 0
	}
	return r.End.Duration
}

// List returns the builds that are kept, the last first.
func (s Store) List() ([]Record, error) {
	paths, err := s.paths()
	if err != nil {
		return nil, err
	}
	var all []Record
	for _, path := range slices.Backward(paths) {
		r, err := readRecord(path)
		if errors.Is(err, fs.ErrNotExist) { // pruned meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// paths are the files, the oldest build's first.
func (s Store) paths() (paths []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
			paths = append(paths, filepath.Join(s.dir, e.Name()))
		}
	}
	return paths, err
}

// id is the build's, of its file's name.
func id(path string) string {
	_, id, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), suffix), "-")
	return id
}

// ErrNotKept means that no build is kept that a reference could mean.
var ErrNotKept = errors.New("no such build is kept")

// Find returns the build that a reference means: an ID or the beginning of one, or ^N for the one N before the last; "" is the last.
func (s Store) Find(ref string) (Record, error) {
	paths, err := s.paths()
	if err != nil {
		return Record{}, err
	}
	slices.Reverse(paths)
	back := 0
	if n, ok := strings.CutPrefix(ref, "^"); ok {
		if _, err := fmt.Sscanf(n, "%d", &back); err != nil || back < 0 {
			return Record{}, fmt.Errorf("build %q: ^ is followed by how many builds before the last", ref)
		}
		ref = ""
	}
	var found []string
	for _, path := range paths {
		if strings.HasPrefix(id(path), ref) {
			found = append(found, path)
		}
	}
	switch {
	case back >= len(found):
		return Record{}, fmt.Errorf("build %q: %w; see forge builds", ref, ErrNotKept)
	case ref != "" && len(found) > 1 && id(found[0]) != ref:
		return Record{}, fmt.Errorf("build %q: %d builds begin so; give more of the ID", ref, len(found))
	}
	return readRecord(found[back])
}

// readRecord reads the first and the last line of a file.
func readRecord(path string) (r Record, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return r, err
	}
	r = Record{ID: id(path), State: Killed, Bytes: info.Size(), Time: info.ModTime(), path: path}
	if flock.Held(path) {
		r.State = Running
	}
	const most = 64 << 10 // bytes of a line that says how a build began or ended
	head, tail := make([]byte, min(most, info.Size())), make([]byte, min(most, info.Size()))
	if _, err := io.ReadFull(f, head); err != nil {
		return r, err
	}
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return r, err
	}
	var first event.Event
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if json.Unmarshal(line, &first) == nil && first.Kind == event.Begun {
		r.Begin, r.Time = first.Begin, first.Time
	}
	tail = bytes.TrimSuffix(tail, []byte("\n"))
	tail = tail[bytes.LastIndexByte(tail, '\n')+1:]
	var last event.Event
	if json.Unmarshal(tail, &last) != nil || last.Kind != event.Ended {
		return r, nil
	}
	r.End, r.State = last, Completed
	if last.Error != "" {
		r.State = Errored
	}
	if t := last.Totals; t != nil && t.Canceled && t.Failed == 0 {
		r.State = Canceled
	}
	return r, nil
}

// Remove removes the files of builds.
func (s Store) Remove(refs ...string) (removed []string, err error) {
	for _, ref := range refs {
		r, found := s.Find(ref)
		switch {
		case found != nil:
			err = errors.Join(err, found)
		case r.State == Running:
			err = errors.Join(err, fmt.Errorf("build %s is running: stop it first", r.ID))
		default:
			err = errors.Join(err, os.Remove(r.path))
			removed = append(removed, r.ID)
		}
	}
	return removed, err
}

// keepLast removes the oldest builds if there are too many. It looks at none of those that stay: each build does this.
func (s Store) keepLast() error {
	paths, err := s.paths()
	for _, path := range paths[:max(0, len(paths)-MaxBuilds)] {
		if flock.Held(path) {
			continue
		}
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// Prune removes the oldest builds until at most so many are left, those that run not counted, and the files of the rest have
// together no more than the store may have. It returns the IDs of those that went, and the bytes that were theirs.
func (s Store) Prune(keep int) (removed []string, freed int64, err error) {
	paths, err := s.paths()
	if err != nil {
		return nil, 0, err
	}
	var bytes int64
	for i, path := range slices.Backward(paths) {
		info, err := os.Lstat(path)
		if err != nil {
			continue // pruned by another process
		}
		bytes += info.Size()
		last := i == len(paths)-1
		if keep > 0 && (last || bytes <= maxBytes) {
			keep--
			continue
		}
		if flock.Held(path) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, freed, err
		}
		removed, freed, bytes = append(removed, id(path)), freed+info.Size(), bytes-info.Size()
	}
	return removed, freed, nil
}
