package filetree

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A list that grows is the same list wherever it lies: in memory, in a file, and in memory again once the file can grow no more.
func TestSpill(t *testing.T) {
	var files []*os.File
	s := NewSpill(func() (*os.File, error) {
		fd, err := unix.MemfdCreate("spill", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			return nil, err
		}
		files = append(files, os.NewFile(uintptr(fd), "spill"))
		return files[len(files)-1], nil
	})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var list []int64
	check := func(files, want int) {
		t.Helper()
		for len(list) < want {
			list = append(Grow(s, list, 1), int64(len(list)))
		}
		for i, n := range list {
			if n != int64(i) {
				t.Fatalf("element %d of %d is %d", i, want, n)
			}
		}
		if len(s.files) != files {
			t.Errorf("%d elements are in %d files, want %d", want, len(s.files), files)
		}
	}
	check(0, spillFrom/8)
	check(1, spillFrom/4)
	begin := &list[0]
	check(1, 3*spillStep/8)
	if begin != &list[0] {
		t.Error("a list in a file has moved")
	}
	if _, err := unix.FcntlInt(files[0].Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW); err != nil {
		t.Fatal(err)
	}
	s.create = func() (*os.File, error) { return nil, unix.ENOSPC }
	check(1, 5*spillStep/8)
	if *begin != 0 || begin == &list[0] {
		t.Error("the list is still where it cannot grow")
	}
	for _, n := range Zeros[int64](s, spillFrom) {
		if n != 0 {
			t.Fatal("not zero")
		}
	}
}
