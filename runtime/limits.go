package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPids is how many processes and threads a container may have.
const defaultPids = 4096

// accounting are the controllers of version 1 that a container with [Limits.Account] has whether it has limits or not.
func accounting() []string { return []string{"memory", "cpu", "cpuacct", "freezer", "blkio"} }

// A setting is what to write to a file of a controller, line by line: the kernel takes one at a time.
type setting struct {
	controller, file string
	values           []string
	asked            bool   // by the caller: it wants to know if it could not be had
	lack             string // docker's words for going on without it; "" is an error there

	refuse string   // words of the error where it cannot be had; "" leaves it to lack
	device string   // path of the one block device that it is about; "" is none
	or     *setting // what is written where there is no such file
}

// in is the setting, or the other one if only that has a file in the directory.
func (set setting) in(dir string) setting {
	if set.or != nil && unix.Access(filepath.Join(dir, set.file), unix.F_OK) != nil {
		return *set.or
	}
	return set
}

// check finds limits that contradict each other, in docker's words.
func (l *Limits) check() error {
	switch {
	case l.MemorySwap > 0 && l.Memory == 0:
		return errors.New("you should always set the Memory limit when using Memoryswap limit, see usage")
	case l.MemorySwap > 0 && l.MemorySwap < l.Memory:
		return errors.New("minimum memoryswap limit should be larger than memory limit, see usage")
	case l.MemorySwap < -1:
		return fmt.Errorf("memoryswap limit %d: must be positive, or -1 for no limit", l.MemorySwap)
	case l.Memory > 0 && l.MemoryReservation > l.Memory:
		return errors.New("minimum memory limit can not be less than memory reservation limit, see usage")
	case l.CPUShares < 0:
		return fmt.Errorf("invalid CPU shares (%d): must not be negative", l.CPUShares)
	case l.OOMScoreAdj < -1000 || l.OOMScoreAdj > 1000:
		return fmt.Errorf("invalid value %d, range for oom score adj is [-1000, 1000]", l.OOMScoreAdj)
	}
	return nil
}

// settings are the limits of a new container, and what guards its devices; the last only where there is a parent.
func (s *setup) settings(parent *cgroupParent) (list []setting, err error) {
	unified := parent != nil && parent.unified
	if s.spec.Limits.Pids == 0 {
		list = append(list, setting{controller: "pids", file: "pids.max", values: []string{strconv.Itoa(defaultPids)}})
	}
	limits, err := s.spec.Limits.settings(unified)
	if err != nil {
		return nil, err
	}
	list = append(list, limits...)
	if !unified && !s.spec.Security.Privileged {
		list = append(list, setting{controller: "devices", file: "devices.deny", values: []string{"a"}},
			setting{controller: "devices", file: "devices.allow", values: deviceRules(s.spec)})
	}
	return list, nil
}

const (
	lackMemory      = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded"
	lackSwap        = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap"
	lackReservation = "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded"
	lackPids        = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded"
	lackShares      = "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded"
	lackCpuset      = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded"
	lackOOMDisable  = "Your kernel does not support OomKillDisable. OomKillDisable discarded"
)

// cpuPeriod is over what the time of processors is counted, in microseconds: the kernel's default.
const cpuPeriod = 100000

// quota is the time of processors in a period, in microseconds.
func (l *Limits) quota() string {
	if l.NanoCPUs > 0 {
		return strconv.FormatInt(max(l.NanoCPUs*cpuPeriod/1e9, 1000), 10)
	}
	return strconv.FormatInt(l.CPUQuota, 10)
}

// quotaAndPeriod are quota and period as version 2 has them, in one file.
func (l *Limits) quotaAndPeriod() string {
	quota := "max"
	if l.NanoCPUs > 0 || l.CPUQuota > 0 {
		quota = l.quota()
	}
	return quota + " " + strconv.FormatInt(cmp.Or(l.CPUPeriod, cpuPeriod), 10)
}

// settings are the limits that were asked for, in the order of their controllers.
func (l *Limits) settings(unified bool) (list []setting, err error) {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	// docker's default is as much swap as memory; version 2 counts swap alone.
	both, swap := l.MemorySwap, "max"
	if both == 0 {
		both = 2 * min(l.Memory, math.MaxInt64/2)
	}
	if both > 0 {
		swap = number(both - l.Memory)
	}
	for _, row := range []struct {
		on, asked        bool
		controller, lack string
		files, values    [2]string // of version 1 and 2
	}{
		{l.Pids != 0, true, "pids", lackPids, [2]string{"pids.max", "pids.max"}, [2]string{pidsMax(l.Pids), pidsMax(l.Pids)}},
		{l.Memory > 0, true, "memory", lackMemory, [2]string{"memory.limit_in_bytes", "memory.max"}, [2]string{number(l.Memory), number(l.Memory)}},
		{l.Memory > 0, l.MemorySwap != 0, "memory", lackSwap, [2]string{"memory.memsw.limit_in_bytes", "memory.swap.max"}, [2]string{number(both), swap}},
		{l.MemoryReservation > 0, true, "memory", lackReservation, [2]string{"memory.soft_limit_in_bytes", "memory.low"}, [2]string{number(l.MemoryReservation), number(l.MemoryReservation)}},
		{l.OOMKillDisable, true, "memory", lackOOMDisable, [2]string{"memory.oom_control", "memory.oom_control"}, [2]string{"1", "1"}}, // version 2 has none
		{l.CPUPeriod > 0, true, "cpu", "", [2]string{"cpu.cfs_period_us", "cpu.max"}, [2]string{number(l.CPUPeriod), l.quotaAndPeriod()}},
		{l.NanoCPUs > 0 || l.CPUQuota > 0, true, "cpu", "", [2]string{"cpu.cfs_quota_us", "cpu.max"}, [2]string{l.quota(), l.quotaAndPeriod()}},
		{l.CPUShares > 0, true, "cpu", lackShares, [2]string{"cpu.shares", "cpu.weight"}, [2]string{number(l.CPUShares), strconv.Itoa(cpuWeight(l.CPUShares))}},
		{l.CPUs != "", true, "cpuset", lackCpuset, [2]string{"cpuset.cpus", "cpuset.cpus"}, [2]string{l.CPUs, l.CPUs}},
		{l.Mems != "", true, "cpuset", lackCpuset, [2]string{"cpuset.mems", "cpuset.mems"}, [2]string{l.Mems, l.Mems}},
	} {
		version := map[bool]int{false: 0, true: 1}[unified]
		if row.on {
			list = append(list, setting{
				controller: row.controller, file: row.files[version], values: []string{row.values[version]}, asked: row.asked, lack: row.lack,
			})
		}
	}
	block, err := l.BlockIO.settings(unified)
	return append(list, block...), err
}

func pidsMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// cpuWeight is what shares of version 1 (2 to 262144, 1024 is usual) are in version 2 (1 to 10000, 100 is usual), by the
// formula of crun and runc, which leaves what is usual as it is.
func cpuWeight(shares int64) int {
	l := math.Log2(float64(min(max(shares, 2), 262144)))
	return min(max(int(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34))), 1), 10000)
}

// limit writes a setting of a new container.
func (s *setup) limit(g *cgroup, set setting) error {
	if g.parent.dir[set.controller] == "" {
		return s.discard(set, "this machine has no cgroup controller "+set.controller+" for it")
	}
	dir := filepath.Join(g.parent.dir[set.controller], g.name)
	err := g.makeOnce(dir)
	if err == nil {
		set = set.in(dir)
		err = writeLines(filepath.Join(dir, set.file), set.values)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && (set.lack != "" || set.refuse != ""):
		return s.discard(set, "there is no "+set.file)
	case err != nil && (set.asked || g.guardsDevices && set.file == "devices.allow"):
		return set.explain(dir, err)
	case err == nil && set.file == "devices.deny":
		g.guardsDevices = true
	}
	return nil
}

// explain says in docker's words what the kernel has against a value.
func (set *setting) explain(dir string, err error) error {
	if set.controller == "cpuset" && !errors.Is(err, fs.ErrPermission) {
		available, _ := os.ReadFile(filepath.Join(filepath.Dir(dir), set.file))
		if len(available) == 0 {
			available, _ = os.ReadFile(filepath.Join(filepath.Dir(dir), set.file+".effective"))
		}
		if set.file == "cpuset.mems" {
			return fmt.Errorf("requested memory nodes are not available - requested %s, available: %s", set.values[0], strings.TrimSpace(string(available)))
		}
		return fmt.Errorf("requested CPUs are not available - requested %s, available: %s", set.values[0], strings.TrimSpace(string(available)))
	}
	if set.device != "" {
		return explainBlock(set.device, err)
	}
	return err
}

// discard goes on without a limit where docker does, but for those of block devices.
func (s *setup) discard(set setting, reason string) error {
	switch {
	case !set.asked:
	case set.refuse != "":
		return errors.New(set.refuse + ": " + reason)
	case set.lack == "":
		return errors.New("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted: " + reason)
	default:
		s.warn(set.lack + ": " + reason)
	}
	return nil
}

func writeLines(file string, lines []string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	for _, line := range lines {
		if _, err := unix.Pwrite(fd, []byte(line), 0); err != nil {
			return &os.PathError{Op: "write", Path: file, Err: err}
		}
	}
	return nil
}

// inheritCpuset gives a new cgroup of the cpuset controller of version 1 what its parent has: it begins with nothing, and
// nobody can join that.
func inheritCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err == nil {
			err = writeLines(filepath.Join(dir, file), []string{strings.TrimSpace(string(b))})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// oomScore sets how willing the kernel is to kill the process for want of memory, unless that is what it is. Raising it is
// allowed to everybody, lowering it to few: it is an error only if the caller asked for it.
func (s *setup) oomScore() {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	want := strconv.Itoa(s.spec.Limits.OOMScoreAdj)
	if err == nil && strings.TrimSpace(string(own)) == want {
		return
	}
	pass := uint64(0)
	if want == "0" {
		pass = errnos(unix.EACCES, unix.EPERM)
	}
	s.step = "oom score adjustment " + want
	fd := s.word()
	s.call(unix.SYS_OPENAT, num(unix.AT_FDCWD), s.str("/proc/self/oom_score_adj"), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0)).into(fd)
	s.call(unix.SYS_WRITE, fd, s.str(want), num(len(want))).allow(pass)
	s.call(unix.SYS_CLOSE, fd)
}

// Update changes limits of the container; zero leaves what there is. What its cgroups have no controller for is an error:
// a container of [Limits.Account] has all that the machine has.
func (t *Target) Update(l Limits) error {
	if err := l.check(); err != nil {
		return err
	}
	list, err := l.settings(fileIn(t.Cgroups, "cgroup.controllers") != "")
	if err != nil {
		return err
	}
	for i := 0; i < len(list); i++ {
		set := &list[i]
		if set.or != nil && fileIn(t.Cgroups, set.file) == "" {
			set = set.or
		}
		path := fileIn(t.Cgroups, set.file)
		if path == "" {
			if !set.asked {
				continue
			}
			if len(t.Cgroups) == 0 {
				return errors.New("limits cannot be changed: the container is in no cgroup (of this machine's: " + Cgroups() + ")")
			}
			if set.refuse != "" {
				return errors.New(set.refuse + ": there is no " + set.file)
			}
			return fmt.Errorf("%s: the container's cgroups have no such file", set.file)
		}
		err := writeLines(path, set.values)
		// The sum with swap may not be less than the memory: whichever grows goes first.
		if err != nil && set.controller == "memory" && i+1 < len(list) && list[i+1].lack == lackSwap {
			if err = writeLines(fileIn(t.Cgroups, list[i+1].file), list[i+1].values); err == nil {
				err = writeLines(path, set.values)
			}
		}
		if err != nil && set.asked {
			return t.orDone(set.explain(filepath.Dir(path), err))
		}
	}
	return nil
}
