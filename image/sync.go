package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/forge-build/forge/internal/failpoint"
)

// syncfsNumber is the number of syncfs(2), 0 if unknown: the standard library's tables end before it on some machines.
func syncfsNumber() uintptr {
	switch runtime.GOARCH {
	case "amd64":
		return 306
	case "386":
		return 344
	case "arm":
		return 373
	case "ppc64", "ppc64le":
		return 348
	case "s390x":
		return 338
	case "arm64", "riscv64", "loong64":
		return 267
	}
	return 0
}

// syncfs makes all of the file system that f lies in durable. It fails if anything of it could not be written since f
// was opened (Linux 5.8).
func syncfs(f *os.File) error {
	number := syncfsNumber()
	if number == 0 {
		syscall.Sync()
		return nil
	}
	for {
		_, _, errno := syscall.Syscall(number, f.Fd(), 0, 0)
		if errno == 0 {
			return nil
		}
		if errno != syscall.EINTR {
			return &fs.PathError{Op: "syncfs", Path: f.Name(), Err: errno}
		}
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	f.Close()
	return err
}

// writeDurably replaces the file path with data at once: a temporary file (in the staging directory, where a crash leaves
// it to the sweep), write, fsync, rename, fsync of the directory. The fail points are point.before-rename and
// point.after-rename.
func (s *Staging) writeDurably(path string, data []byte, point string) (err error) {
	f, err := s.Create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := failpoint.At(point + ".before-rename"); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := failpoint.At(point + ".after-rename"); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
