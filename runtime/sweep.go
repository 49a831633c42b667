package runtime

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sweep removes the cgroups of containers whose callers were killed. Starting a container looks into one hierarchy only;
// this looks into all.
func Sweep() {
	parent, err := findCgroups()
	if err != nil {
		return // then there are none
	}
	for controller, dir := range parent.dir {
		(&cgroupParent{dir: map[string]string{controller: dir}}).sweep()
	}
}

const (
	maxCgroupsBelow = 1000 // how many are removed at a time; the next sweep goes on
	maxCgroupDepth  = 100
)

// removeCgroup removes a cgroup in which no process is, with those that a container has made below its own. The error is a number of the
// kernel, EBUSY if something is left.
func removeCgroup(dir string) error {
	err := unix.Rmdir(dir)
	if err != unix.EBUSY {
		return err
	}
	f, openErr := os.Open(dir)
	if openErr != nil {
		return err
	}
	defer f.Close()
	left := maxCgroupsBelow
	removeBelow(f, maxCgroupDepth, &left)
	return unix.Rmdir(dir)
}

// removeBelow removes the cgroups in a directory, the deepest first, by descriptors, as their paths may be too long.
func removeBelow(dir *os.File, depth int, left *int) {
	entries, _ := dir.ReadDir(-1)
	for _, e := range entries {
		if !e.IsDir() || depth == 0 || *left <= 0 {
			continue
		}
		*left--
		if unix.Unlinkat(int(dir.Fd()), e.Name(), unix.AT_REMOVEDIR) != unix.EBUSY {
			continue
		}
		fd, err := unix.Openat(int(dir.Fd()), e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), e.Name())
		removeBelow(f, depth-1, left)
		_ = f.Close() // it was open for reference only
		_ = unix.Unlinkat(int(dir.Fd()), e.Name(), unix.AT_REMOVEDIR)
	}
}
