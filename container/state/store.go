// Package state keeps what is known of containers that stay: what each was created as, and how its last run went.
//
// A container is a directory, named by its ID. Nothing in it says "stopping" or "removing": what is under way is known by
// the locks that those who do it hold, and a lock ends with its holder. So no state is left behind by a process that was
// killed, and a container whose monitor is gone is known to have ended.
package state

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/flock"
)

// A Store is the directory of all containers. C is what the caller keeps of each. Safe for concurrent use, by processes too.
type Store[C any] struct {
	dir string
}

// Open returns the store in a directory, which is made by the first Create.
func Open[C any](dir string) *Store[C] { return &Store[C]{dir} }

// A Record is what a container was created as.
type Record[C any] struct {
	ID       string // 64 hex digits
	Name     string // without a slash
	Created  time.Time
	Image    string             // as the caller named it
	ImageID  digest.Digest      // digest of the image's configuration
	Manifest ocispec.Descriptor // what must stay in the store while the container does
	Volumes  []string           `json:"-"` // names of those it uses: Create keeps them in a file of their own, see [Store.Volumes]
	Config   C
}

// Names of files in a container's directory.
const (
	recordFile  = "config.json"
	volumesFile = "volumes" // names of volumes, one a line; there is none if the container uses none
	runFile     = "run.json"
	lockFile    = "lock"  // held by whoever changes the container, for moments
	aliveFile   = "alive" // held by its monitor, while it runs or is about to be restarted
)

// NewID makes the ID of a container.
func NewID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// Dir is the directory of a container.
func (s *Store[C]) Dir(id string) string { return filepath.Join(s.dir, id) }

func (s *Store[C]) namesDir() string { return filepath.Join(s.dir, "names") }

// A NameTakenError says that a name belongs to another container.
type NameTakenError struct{ Name, ID string }

// Error is docker's text.
func (e *NameTakenError) Error() string {
	return fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
		"/"+e.Name, e.ID)
}

// Create writes the record of a new container. It fails with a *NameTakenError if the name is another's. If the record has no
// name, names is asked for some until one is free.
func (s *Store[C]) Create(ctx context.Context, r *Record[C], names func() string) (err error) {
	if err := os.MkdirAll(s.namesDir(), 0o700); err != nil {
		return err
	}
	temp, err := flock.NewDir(s.dir, newPrefix)
	if err != nil {
		return err
	}
	placed := false
	defer func() {
		if !placed {
			err = errors.Join(err, os.RemoveAll(temp.Name()))
		}
		err = errors.Join(err, temp.Close())
	}()
	lock, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := s.chooseName(r, names); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(temp.Name(), recordFile), r, durable.ReplaceFile); err != nil {
		return err
	}
	if len(r.Volumes) > 0 {
		text := strings.Join(r.Volumes, "\n") + "\n"
		if err := durable.ReplaceFile(filepath.Join(temp.Name(), volumesFile), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.Symlink(r.ID, filepath.Join(s.namesDir(), r.Name)); err != nil {
		return err
	}
	if err := failpoint.At("state.create.named"); err != nil {
		return err
	}
	err = durable.Move(temp.Name(), s.Dir(r.ID))
	placed = err == nil
	return err
}

// newPrefix begins the names of directories of containers that are being made.
const newPrefix = ".new-"

// chooseName makes sure that the name is free, or finds a free one. The caller holds the lock of the names.
func (s *Store[C]) chooseName(r *Record[C], names func() string) error {
	if r.Name != "" {
		return s.free(r.Name)
	}
	for {
		r.Name = names()
		err := s.free(r.Name)
		if _, taken := errors.AsType[*NameTakenError](err); !taken {
			return err
		}
	}
}

// owner returns the ID of the container that has a name, "" if none has. The record of a container says what it is called: a
// name that leads to it without that was left by a process that was killed.
func (s *Store[C]) owner(name string) (string, error) {
	id, err := os.Readlink(filepath.Join(s.namesDir(), name))
	if err == nil {
		var r *Record[C]
		if r, err = s.Record(id); err == nil && r.Name != name {
			id = ""
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // damaged
			err = nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return id, err
}

// free makes sure that nobody has a name, and that there is no file of it.
func (s *Store[C]) free(name string) error {
	id, err := s.owner(name)
	if err != nil {
		return err
	}
	if id != "" {
		return &NameTakenError{name, id}
	}
	if err := os.Remove(filepath.Join(s.namesDir(), name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store[C]) lockNames(ctx context.Context) (*os.File, error) {
	return flock.Lock(ctx, s.NamesLockFile(), flock.Exclusive)
}

// locked does something with the record of a container, which nobody else changes meanwhile.
func (s *Store[C]) locked(ctx context.Context, id string, do func(*Record[C]) error) (err error) {
	lock, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	r, err := s.Record(id)
	if err != nil {
		return err
	}
	return do(r)
}

// Rename gives a container another name. It fails with a *NameTakenError if that is another's.
func (s *Store[C]) Rename(ctx context.Context, id, name string) error {
	return s.locked(ctx, id, func(r *Record[C]) error {
		if err := s.free(name); err != nil {
			return err
		}
		if err := os.Symlink(id, filepath.Join(s.namesDir(), name)); err != nil {
			return err
		}
		if err := failpoint.At("state.rename.named"); err != nil {
			return err
		}
		old := r.Name
		r.Name = name
		if err := writeJSON(filepath.Join(s.Dir(id), recordFile), r, durable.ReplaceFile); err != nil {
			return errors.Join(err, os.Remove(filepath.Join(s.namesDir(), name)))
		}
		if err := failpoint.At("state.rename.renamed"); err != nil {
			return err
		}
		return s.dropName(old, id)
	})
}

// dropName removes a name, if it is that container's.
func (s *Store[C]) dropName(name, id string) error {
	link := filepath.Join(s.namesDir(), name)
	if owner, err := os.Readlink(link); err != nil || owner != id {
		return nil
	}
	return os.Remove(link)
}

// Change changes the record of a container.
func (s *Store[C]) Change(ctx context.Context, id string, change func(*Record[C]) error) error {
	return s.locked(ctx, id, func(r *Record[C]) error {
		if err := change(r); err != nil {
			return err
		}
		return writeJSON(filepath.Join(s.Dir(id), recordFile), r, durable.ReplaceFile)
	})
}

// Record reads what a container was created as. It fails with a *NotFoundError if the container is gone.
func (s *Store[C]) Record(id string) (*Record[C], error) {
	r := new(Record[C])
	if err := readJSON(filepath.Join(s.Dir(id), recordFile), r); err != nil {
		return nil, s.gone(id, err)
	}
	return r, nil
}

// Volumes are the names of the volumes that a container uses, also of one whose record is damaged.
func (s *Store[C]) Volumes(id string) ([]string, error) {
	path := filepath.Join(s.Dir(id), volumesFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	text, whole := strings.CutSuffix(string(b), "\n")
	if err == nil && (!whole || text == "") {
		err = fmt.Errorf("%s is damaged", path)
	}
	return strings.Split(text, "\n"), err
}

// IDs lists the containers, in no order.
func (s *Store[C]) IDs() ([]string, error) {
	d, err := os.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	ids := names[:0]
	for _, n := range names {
		if len(n) == 64 && isHex(n) {
			ids = append(ids, n)
		}
	}
	return ids, err
}

// A NotFoundError says that there is no container of a name.
type NotFoundError struct{ Ref string }

// Error is docker's text.
func (e *NotFoundError) Error() string { return "No such container: " + e.Ref }

// Is makes it fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// gone is the error of a container of which something could not be read: a *NotFoundError if it has been removed.
func (s *Store[C]) gone(id string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, statErr := os.Lstat(s.Dir(id)); errors.Is(statErr, fs.ErrNotExist) {
		return &NotFoundError{id}
	}
	return err
}

// Find returns the ID of the container that a full ID, a name (with a slash before it or not) or a unique prefix of an ID
// means. It fails with a *NotFoundError if none is meant.
func (s *Store[C]) Find(ref string) (string, error) {
	if len(ref) == 64 && isHex(ref) {
		if _, err := os.Lstat(s.Dir(ref)); err == nil {
			return ref, nil
		}
	}
	name := strings.TrimPrefix(ref, "/")
	if name != "" && !strings.Contains(name, "/") && name != "." && name != ".." {
		if id, err := s.owner(name); id != "" || err != nil {
			return id, err
		}
	}
	if !isHex(ref) {
		return "", &NotFoundError{ref}
	}
	ids, err := s.IDs()
	if err != nil {
		return "", err
	}
	found := ""
	for _, id := range ids {
		switch {
		case !strings.HasPrefix(id, ref):
		case found != "":
			return "", fmt.Errorf("multiple IDs found with provided prefix: %s", ref)
		default:
			found = id
		}
	}
	if found == "" {
		return "", &NotFoundError{ref}
	}
	return found, nil
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

// Lock keeps others from changing the container until the file is closed: from starting and removing it. It fails with a
// *NotFoundError if the container is gone.
func (s *Store[C]) Lock(ctx context.Context, id string) (*os.File, error) {
	f, err := flock.Lock(ctx, s.LockFile(id), flock.Exclusive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{id}
	}
	return f, err
}

// Remove removes a container. The caller holds its lock and has made sure that it does not run. What was written in it is
// deleted by remove, after the container is out of sight.
func (s *Store[C]) Remove(ctx context.Context, id string, remove func(path string) error) error {
	trash, err := s.discard(ctx, id)
	if err != nil {
		return err
	}
	return remove(trash)
}

// discard takes a container's directory and name away.
func (s *Store[C]) discard(ctx context.Context, id string) (trash string, err error) {
	lock, err := s.lockNames(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	var r struct{ Name string } // no more of it is needed
	_ = readJSON(filepath.Join(s.Dir(id), recordFile), &r)
	name := r.Name
	trash = filepath.Join(s.dir, trashPrefix+id)
	if err := durable.Move(s.Dir(id), trash); err != nil {
		return "", err
	}
	if err := failpoint.At("state.remove.moved"); err != nil {
		return "", err
	}
	if name == "" {
		return trash, s.dropNamesOf(id)
	}
	return trash, s.dropName(name, id)
}

// trashPrefix begins the names of directories of containers that are gone.
const trashPrefix = ".gone-"

// dropNamesOf removes all names of a container whose record cannot be read.
func (s *Store[C]) dropNamesOf(id string) error {
	entries, err := os.ReadDir(s.namesDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, s.dropName(e.Name(), id))
	}
	return errors.Join(errs...)
}

// Sweep deletes what processes that were killed have left: containers half made and half deleted.
func (s *Store[C]) Sweep(remove func(path string) error) error {
	return errors.Join(flock.Sweep(s.dir, newPrefix, remove), flock.Sweep(s.dir, trashPrefix, remove))
}
