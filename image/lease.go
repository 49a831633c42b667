package image

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/flock"
)

// A lease names the blobs that a running process needs, so that no [Layout.Prune] takes them away. It is the file
// leases/<random>, locked by its owner for life; one that nobody holds counts for nothing. Its first line is the [Owner],
// the others are descriptors: of a blob, or of a manifest or an index with all that it names.
//
// Who wants a blob first adds it to his lease and then looks whether it is there. Adding takes the store's lock, shared, for
// the time of a write; a prune holds that lock, exclusively, while it decides and moves. So a blob that was there after it
// was added stays. Safe for concurrent use.
type lease struct {
	root  string
	owner Owner

	mu    sync.Mutex // guards all below
	store *os.File   // the store's lock file, open
	file  *os.File   // nil until something is held
	held  map[string]bool
	all   bool // the store's lock is held instead, for life: see own, or there is no space for the file, or it may not be written
}

// An Owner is a process that holds a lease.
type Owner struct {
	PID     int       `json:"pid"`
	Command string    `json:"command,omitempty"` // such as "build", without its arguments, which may be secret
	Since   time.Time `json:"since"`
}

func (o Owner) String() string {
	name := strings.TrimSpace("forge " + o.Command)
	return fmt.Sprintf("%s (process %d, since %s)", name, o.PID, o.Since.Local().Format(time.DateTime))
}

// Hold keeps blobs from being pruned until the staging is closed. Of manifests and indexes, which are known by their media
// types, it keeps all that they name, too. Only what is there after Hold has returned is sure to stay.
func (l *Layout) Hold(ctx context.Context, ds ...ocispec.Descriptor) error {
	return l.staging.lease.hold(ctx, ds)
}

// Take finds an image as [Layout.Find] does, and holds it.
func (l *Layout) Take(ctx context.Context, s string) (Named, error) {
	return l.take(ctx, func() (Named, error) { return l.Find(ctx, s) })
}

func (l *Layout) take(ctx context.Context, find func() (Named, error)) (Named, error) {
	for {
		n, err := find()
		if err != nil {
			return n, err
		}
		if err := l.Hold(ctx, n.Descriptor); err != nil {
			return n, err
		}
		// What has its name still was whole when it was held.
		if again, err := find(); err != nil || again.Descriptor.Digest == n.Descriptor.Digest {
			return again, err
		}
	}
}

func (l *lease) hold(ctx context.Context, ds []ocispec.Descriptor) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all {
		return nil
	}
	var lines bytes.Buffer
	var added []string
	for _, d := range ds {
		key := string(d.Digest)
		if IsDocument(d.MediaType) {
			key += " and what it names"
		} else {
			d.MediaType = ""
		}
		if l.held[key] {
			continue
		}
		line, err := json.Marshal(ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
		if err != nil {
			return err
		}
		lines.Write(append(line, '\n'))
		added = append(added, key)
	}
	if len(added) == 0 {
		return nil
	}
	if err := l.write(ctx, lines.Bytes()); err != nil || l.all {
		return err
	}
	for _, key := range added {
		l.held[key] = true
	}
	return nil
}

// write adds lines to the file while no prune is at work. The caller holds mu.
func (l *lease) write(ctx context.Context, lines []byte) (err error) {
	if l.store == nil {
		l.store, err = flock.Lock(ctx, filepath.Join(l.root, "lock"), flock.Shared)
	} else {
		err = flock.Wait(ctx, l.store, flock.Shared)
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if l.file == nil {
		err = l.create(ctx)
	}
	if err == nil {
		_, err = l.file.Write(lines)
	}
	if isFull(err) || errors.Is(err, syscall.EROFS) {
		l.all = true
		return nil
	}
	return errors.Join(err, flock.Unlock(l.store))
}

// own holds the store's lock instead, exclusively, for life.
func (l *lease) own() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store, err = flock.TryLock(filepath.Join(l.root, "lock"), flock.Exclusive)
	l.all = err == nil
	return err
}

// create makes the file. The caller holds the store's lock.
func (l *lease) create(ctx context.Context) error {
	dir := filepath.Join(l.root, "leases")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return err
	}
	if err := flock.Wait(ctx, f, flock.Exclusive); err != nil { // somebody may ask at this moment whether it is held
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	l.owner.PID, l.owner.Since = os.Getpid(), time.Now().UTC()
	first, err := json.Marshal(l.owner)
	if err == nil {
		_, err = f.Write(append(first, '\n'))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	l.file, l.held = f, map[string]bool{}
	return nil
}

func (l *lease) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.file != nil {
		errs = append(errs, os.Remove(l.file.Name()), l.file.Close())
	}
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	l.file, l.store, l.all, l.held = nil, nil, false, nil
	return errors.Join(errs...)
}

// A Lease is what a living process holds.
type Lease struct {
	Owner Owner
	Held  []ocispec.Descriptor
}

// Leases returns what living processes hold, this one included.
func (l *Layout) Leases() ([]Lease, error) {
	dir := l.path("leases")
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var leases []Lease
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if !flock.Held(path) {
			continue
		}
		lease, err := readLease(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		leases = append(leases, lease)
	}
	return leases, nil
}

// sweepLeases removes the files of dead processes. The caller holds the store's lock exclusively, so that no new one is
// between being made and being locked.
func (l *Layout) sweepLeases() error {
	files, err := os.ReadDir(l.path("leases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		path := l.path("leases", f.Name())
		if flock.Held(path) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func readLease(path string) (lease Lease, err error) {
	f, err := os.Open(path)
	if err != nil {
		return lease, err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for first := true; ; first = false {
		line, err := lines.ReadBytes('\n')
		if err != nil { // the end, or a line that is being written
			return lease, nil
		}
		if first {
			err = json.Unmarshal(line, &lease.Owner)
		} else {
			var d ocispec.Descriptor
			err = json.Unmarshal(line, &d)
			lease.Held = append(lease.Held, d)
		}
		if err != nil {
			return lease, fmt.Errorf("%s: damaged lease: %w", path, err)
		}
	}
}
