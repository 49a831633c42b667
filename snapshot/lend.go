package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/fusefile"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A Lent layer is not here. Its files are known, and what they hold is read when somebody reads it, from elsewhere.
type Lent interface {
	io.ReaderAt
	// Size is how many bytes it can give, a multiple of 512.
	Size() int64
	// Headers tells of each file where in those bytes it is. It is called once.
	Headers(entry func(*layertar.Header) error) error
}

// ErrNotLent means that layers cannot be used on this machine without being stored.
var ErrNotLent = errors.New("layers that are elsewhere can be used only as root, with EROFS (Linux 6.15) and /dev/fuse")

// A lentLayer takes the place of a layer's files. Mounts read the tar; this process reads what it is made of: a process that is killed while it
// waits for its own answer cannot end.
type lentLayer struct {
	index *os.File // without a name
	tar   *fusefile.File
	from  Lent
}

// lentLayers are those that this process has been lent.
type lentLayers struct {
	mu sync.Mutex
	m  map[digest.Digest]*lentLayer // guarded by mu
}

// CanLend returns an error that is ErrNotLent, and says why, where Lend cannot work.
func (s *Store) CanLend() error {
	if kind, why := s.Kind(); kind != EROFS {
		return fmt.Errorf("%w: layers are kept as %s: %s", ErrNotLent, kind, why)
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotLent, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err})
	}
	return closeFD(fd)
}

// Lend has the store use a layer that it does not have, until it is closed or the layer is given back, as if it had it. Nothing of it is kept. A
// layer that was lent already is an error. It is safe for concurrent use.
func (s *Store) Lend(layer image.Layer, from Lent) (err error) {
	if kind, _ := s.Kind(); kind != EROFS {
		return ErrNotLent
	}
	sum, err := sumOf(layer.DiffID)
	if err != nil {
		return err
	}
	x := newIndexer(s.spill())
	defer func() { err = errors.Join(err, x.Close()) }()
	if err := from.Headers(x.add); err != nil {
		return fmt.Errorf("layer %s: %w", layer.DiffID, err)
	}
	index, err := s.Nameless()
	if err != nil {
		return err
	}
	if err := x.index.Encode(index, erofs.Tar{DiffID: sum, Size: from.Size()}); err != nil {
		return errors.Join(err, index.Close())
	}
	tar, err := fusefile.Open(from, from.Size())
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrNotLent, err), index.Close())
	}
	lent := &lentLayer{index, tar, from}
	s.lent.mu.Lock()
	defer s.lent.mu.Unlock()
	if s.lent.m == nil {
		s.lent.m = map[digest.Digest]*lentLayer{}
	}
	if s.lent.m[layer.DiffID] != nil {
		return errors.Join(fmt.Errorf("layer %s was lent already", layer.DiffID), lent.close())
	}
	s.lent.m[layer.DiffID] = lent
	return nil
}

// GiveBack ends what Lend has begun, for those of the layers that were lent. Nothing may use them any more.
func (s *Store) GiveBack(layers []image.Layer) error {
	s.lent.mu.Lock()
	defer s.lent.mu.Unlock()
	var errs []error
	for _, layer := range layers {
		if l := s.lent.m[layer.DiffID]; l != nil {
			delete(s.lent.m, layer.DiffID)
			errs = append(errs, l.close())
		}
	}
	return errors.Join(errs...)
}

func (l *lentLayer) close() error { return errors.Join(l.index.Close(), l.tar.Close()) }

// Nameless makes a file in the store's file system, of which nothing is left however this process ends.
func (s *Store) Nameless() (*os.File, error) {
	f, err := s.layout.Staging().Create()
	if err != nil {
		return nil, err
	}
	return f.File, os.Remove(f.Name())
}

// lentFiles opens the files of a layer that was lent; nil if it was not.
func (s *Store) lentFiles(diffID digest.Digest) *lentLayer {
	s.lent.mu.Lock()
	defer s.lent.mu.Unlock()
	return s.lent.m[diffID]
}

// openTar opens the tar of a layer, or what takes its place, to be mounted.
func (s *Store) openTar(ctx context.Context, layer image.Layer) (*os.File, error) {
	if l := s.lentFiles(layer.DiffID); l != nil {
		return reopen(l.tar.File)
	}
	return s.layout.OpenTar(ctx, layer)
}

// reopen opens the file of a descriptor anew, with an offset of its own.
func reopen(f *os.File) (*os.File, error) {
	fd, err := unix.Open(procPath(int(f.Fd())), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// closeLent gives back what was lent.
func (s *Store) closeLent() error {
	s.lent.mu.Lock()
	defer s.lent.mu.Unlock()
	var errs []error
	for _, l := range s.lent.m {
		errs = append(errs, l.close())
	}
	s.lent.m = nil
	return errors.Join(errs...)
}
