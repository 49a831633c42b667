package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// A Staging holds files that are written but not yet durable. Publish makes all of them durable, side by side, and then renames each to its
// place. Safe for concurrent use.
//
// Its directory, ingest/<random> in the state directory, is made by the first Create and is held by a flock for the life
// of the process. A process that dies leaves it to the next Sweep. Other processes see in it, under names that tell
// their places, the files that are complete, and may adopt them.
type Staging struct {
	root    string // state directory
	lease   lease
	scratch bool // see SetScratch

	publishing sync.Mutex // one Publish at a time; guards lost
	lost       error      // of a sync: the kernel tells it once, and what it could not write is not written by the next

	mu    sync.Mutex
	lock  *os.File           // the directory, flocked; nil before the first Create
	dir   string             // its path
	files map[string]*staged // by final path
	order []string           // the final paths, as they were committed
	also  []string           // see Also
	next  int                // number of the next file
	done  bool
}

// A staged file is complete.
type staged struct {
	final string
	path  string   // in dir
	file  *os.File // open since before it was written, to be synced; nil of most where there are many
}

var errStagingClosed = errors.New("staging is closed")

// OpenStaging prepares to stage files for the state directory root, all of whose files lie in one file system. It
// touches nothing yet.
func OpenStaging(root string) (*Staging, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	root = filepath.Clean(root)
	return &Staging{root: root, lease: lease{root: root}, files: map[string]*staged{}}, nil
}

func (s *Staging) ingest() string { return filepath.Join(s.root, "ingest") }

// Begin makes the directory, so that the first Create finds it. It need not be called; what is wrong, the first Create says.
func (s *Staging) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.begin()
}

// begin makes the staging directory. The caller holds mu.
func (s *Staging) begin() error {
	if s.done {
		return errStagingClosed
	}
	if s.lock != nil {
		return nil
	}
	if err := os.MkdirAll(s.ingest(), 0o700); err != nil {
		return err
	}
	if err := s.Sweep(); err != nil {
		return err
	}
	lock, err := flock.NewDir(s.ingest(), "")
	if err != nil {
		return err
	}
	s.lock, s.dir = lock, lock.Name()
	return nil
}

// Create begins a file, open for reading and writing, mode 0600. Close without Commit discards it.
func (s *Staging) Create() (*StagedFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, strconv.Itoa(s.next)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	s.next++
	return &StagedFile{File: f, staging: s}, nil
}

// Mkdir makes a directory, mode 0700, for files that are never committed. The caller removes it; what he leaves goes with Close, or the
// next Sweep.
func (s *Staging) Mkdir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(); err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, strconv.Itoa(s.next))
	s.next++
	return dir, os.Mkdir(dir, 0o700)
}

// staged is the name in a staging directory of what will be at final: it can be found by those who know final.
func (s *Staging) staged(dir, final string) (string, error) {
	rel, err := filepath.Rel(s.root, final)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s: is not in %s", final, s.root)
	}
	return filepath.Join(dir, fileName(rel)), nil
}

// Lookup returns where the file that is to be at final is now: staged, or final itself if it exists, or an error that
// is fs.ErrNotExist. A Publish at the same time may move it before it is opened: see [Staging.Open].
func (s *Staging) Lookup(final string) (string, error) {
	s.mu.Lock()
	f := s.files[final]
	s.mu.Unlock()
	if f != nil {
		return f.path, nil
	}
	if _, err := os.Lstat(final); err != nil {
		return "", err
	}
	return final, nil
}

// Stat is what [os.Stat] says of the file that is, or is to be, at final.
func (s *Staging) Stat(final string) (fs.FileInfo, error) {
	s.mu.Lock()
	f := s.files[final]
	s.mu.Unlock()
	if f != nil {
		if info, err := os.Stat(f.path); err == nil {
			return info, nil
		}
	}
	return os.Stat(final) // if it was staged, it has been published since
}

// Open opens the file that is, or is to be, at final for reading.
func (s *Staging) Open(final string) (*os.File, error) {
	for {
		s.mu.Lock()
		at := s.files[final]
		s.mu.Unlock()
		if at == nil {
			return durable.OpenRegular(final)
		}
		if f, err := os.Open(at.path); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		s.mu.Lock()
		still := s.files[final] == at
		s.mu.Unlock()
		if still { // nobody published it: it was taken away under us
			return nil, &fs.PathError{Op: "open", Path: at.path, Err: fs.ErrNotExist}
		}
	}
}

// place stages a file that is written, for final, and keeps it open if there are few. The caller holds mu, and has opened the directory.
func (s *Staging) place(f *os.File, final string) error {
	ours, err := s.staged(s.dir, final)
	if err != nil {
		return err
	}
	at := &staged{final: final, path: ours}
	if len(s.files) < few {
		at.file = f
	} else if err := f.Close(); err != nil {
		return err
	}
	if err := durable.Move(f.Name(), ours); err != nil {
		return err
	}
	s.note(at)
	return nil
}

// note notes a file after all others. The caller holds mu.
func (s *Staging) note(f *staged) {
	if _, again := s.files[f.final]; again {
		s.drop(f.final)
		s.forget()
	}
	s.files[f.final], s.order = f, append(s.order, f.final)
}

// drop forgets a file, which is at its place, or not to be kept. The caller holds mu.
func (s *Staging) drop(final string) {
	if f := s.files[final]; f.file != nil {
		_ = f.file.Close() // it is not to be kept
		f.file = nil
	}
	delete(s.files, final)
}

// forget takes files that are not staged any more from the order. The caller holds mu.
func (s *Staging) forget() {
	s.order = slices.DeleteFunc(s.order, func(final string) bool { return s.files[final] == nil })
}

// commitFile stages a file that is elsewhere in the state directory, for final. The caller has written it and closed it.
func (s *Staging) commitFile(path, final string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := s.place(f, final); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// Discard removes the staged files for some places, where there are any.
func (s *Staging) Discard(finals ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.forget() // once, whose time grows with all that is staged
	var errs []error
	for _, final := range finals {
		if f := s.files[final]; f != nil {
			s.drop(final)
			errs = append(errs, os.Remove(f.path))
		}
	}
	return errors.Join(errs...)
}

// SetCommand says what the process is doing, such as "build", for others to whom it is in the way: see [Owner]. It is
// called before anything is held.
func (s *Staging) SetCommand(command string) { s.lease.owner.Command = command }

// SetScratch says that the state directory goes when its process ends, so that nothing in it has to outlive a power cut. It is called
// before anything is written.
func (s *Staging) SetScratch() { s.scratch = true }

// Own takes the state directory for this process alone, until Close, so that nothing has to be held. It is called before
// anything is held; flock.ErrHeld if another process uses the directory.
func (s *Staging) Own() error { return s.lease.own() }

// Dir is the staging directory, held by its lock; nil if nothing was staged.
func (s *Staging) Dir() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lock
}

// Close discards what was not published, and holds nothing any more.
func (s *Staging) Close() error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	errs := []error{s.lease.close()}
	if s.lock != nil {
		for final := range s.files {
			s.drop(final)
		}
		s.forget()
		errs = append(errs, os.RemoveAll(s.dir), s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}
