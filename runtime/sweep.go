package runtime

import (
	"os"
	"slices"
	"strconv"

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
		(&cgroupParent{owner: parent.owner, dir: map[string]string{controller: dir}}).sweep()
	}
}

const (
	maxCgroupsBelow = 1000    // how many are removed at a time; the next sweep goes on
	maxCgroupsRead  = 1 << 16 // in how many processes are looked for
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
		f, err := openBelow(dir, e.Name())
		if err != nil {
			continue
		}
		removeBelow(f, depth-1, left)
		_ = f.Close() // it was open for reference only
		_ = unix.Unlinkat(int(dir.Fd()), e.Name(), unix.AT_REMOVEDIR)
	}
}

func openBelow(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return os.NewFile(uintptr(fd), name), err
}

// members are the processes in the directories of a cgroup, and in those that a container has made below, in order.
func members(dirs []string) (pids []int) {
	left := maxCgroupsRead
	for _, dir := range dirs {
		if f, err := os.Open(dir); err == nil {
			pids = membersBelow(f, maxCgroupDepth, &left, pids)
			_ = f.Close() // it was open for reference only
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// membersBelow adds the processes in a directory, and in those below, to pids.
func membersBelow(dir *os.File, depth int, left *int, pids []int) []int {
	eachFields(fdPath(dir)+"/cgroup.procs", func(f []string) {
		if pid, _ := strconv.Atoi(f[0]); pid > 0 { // 0 is one that this pid namespace does not have
			pids = append(pids, pid)
		}
	})
	entries, _ := dir.ReadDir(-1)
	for _, e := range entries {
		if !e.IsDir() || depth == 0 || *left <= 0 {
			continue
		}
		*left--
		if f, err := openBelow(dir, e.Name()); err == nil {
			pids = membersBelow(f, depth-1, left, pids)
			_ = f.Close()
		}
	}
	return pids
}
