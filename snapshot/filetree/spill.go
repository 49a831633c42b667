package filetree

import (
	"errors"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	spillFrom = 2 << 20 // bytes of a list from which on it lies in a file
	spillStep = 4 << 20 // bytes by which a file grows
	spillMost = 1 << 30 // bytes of address space of a file, more than MaxEntries take
)

// A Spill keeps lists that are long in files instead of in memory, mapped: the kernel writes them out when it needs the
// memory, so that what a process takes does not grow with what an archive says. Nil keeps everything in memory. Not safe for
// concurrent use.
type Spill struct {
	create func() (*os.File, error)
	files  map[unsafe.Pointer]*spilled // by where their lists begin
}

// spilled is the file of a list.
type spilled struct {
	file *os.File
	data []byte // mapped, also where the file does not reach yet, so that a list that grows stays where it is
	size int    // of the file
}

// NewSpill is a Spill of files that create makes, which have no name.
func NewSpill(create func() (*os.File, error)) *Spill {
	return &Spill{create: create, files: map[unsafe.Pointer]*spilled{}}
}

// Close gives back all lists, and strings that refer to them.
func (s *Spill) Close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for at, f := range s.files {
		errs = append(errs, f.close())
		delete(s.files, at)
	}
	return errors.Join(errs...)
}

func (f *spilled) close() error { return errors.Join(unix.Munmap(f.data), f.file.Close()) }

// grow makes room for so many bytes. A file that has its blocks is never short of them when memory is written.
func (f *spilled) grow(need int) error {
	size := (need + spillStep - 1) / spillStep * spillStep
	if size > len(f.data) {
		return unix.EFBIG
	}
	if err := unix.Fallocate(int(f.file.Fd()), 0, int64(f.size), int64(size-f.size)); err != nil {
		return err
	}
	f.size = size
	return nil
}

// open makes a file.
func (s *Spill) open() (*spilled, error) {
	file, err := s.create()
	if err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(file.Fd()), 0, spillMost, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f := &spilled{file: file, data: data}
	s.files[unsafe.Pointer(&data[0])] = f
	return f, nil
}

// Grow returns the list with room for n more, as slices.Grow does; its elements may have no pointers. Where a file cannot be
// had, or no longer grow, the list is in memory.
func Grow[T any](s *Spill, list []T, n int) []T {
	if len(list)+n <= cap(list) {
		return list
	}
	var zero T
	each := int(unsafe.Sizeof(zero))
	need := (len(list) + n) * each
	if s == nil || need <= spillFrom {
		return slices.Grow(list, n)
	}
	f := s.files[unsafe.Pointer(unsafe.SliceData(list))]
	moved := f == nil
	if moved {
		var err error
		if f, err = s.open(); err != nil {
			return slices.Grow(list, n)
		}
	}
	if err := f.grow(need); err != nil {
		return slices.Grow(list, n)
	}
	room := unsafe.Slice((*T)(unsafe.Pointer(&f.data[0])), f.size/each)
	if moved {
		copy(room, list)
	}
	return room[:len(list)]
}

// Zeros returns a list of n zeros.
func Zeros[T any](s *Spill, n int) []T {
	list := Grow(s, []T(nil), n)[:n]
	clear(list)
	return list
}

// Free gives back a list that Grow or Zeros has returned.
func Free[T any](s *Spill, list []T) {
	if s == nil {
		return
	}
	at := unsafe.Pointer(unsafe.SliceData(list))
	if f := s.files[at]; f != nil {
		delete(s.files, at)
		_ = f.close() // nobody reads the file again
	}
}
