package runtime

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Stats are what a container uses. Processor time, memory and processes that none of its cgroups counts are the sums of what its
// processes use that run now; what else none of them counts is zero.
type Stats struct {
	CPU, CPUUser, CPUSystem time.Duration // since it began
	Machine                 time.Duration // what all processors of the machine have had to give meanwhile and before
	Processors              int           // of the machine

	Memory, MemoryLimit int64 // bytes; without what can be taken back at once: files that nobody has used lately
	Pids, PidsLimit     int64 // processes and threads; -1 is no limit
	Read, Written       int64 // bytes of block devices
	Received, Sent      int64 // bytes of its network interfaces but lo
}

// Percent is docker's measure of the processors used between an earlier reading and this: 100 is one of them.
func (s *Stats) Percent(before *Stats) float64 {
	used, machine := s.CPU-before.CPU, s.Machine-before.Machine
	if used <= 0 || machine <= 0 {
		return 0
	}
	return float64(used) / float64(machine) * float64(s.Processors) * 100
}

// Stats reads what the container uses.
func (t *Target) Stats() (Stats, error) {
	s := Stats{Processors: runtime.NumCPU(), Machine: machineTime()}
	cpu, memory, pids := t.processors(&s), t.memory(&s), fileIn(t.Cgroups, "pids.current")
	if pids != "" {
		s.Pids, s.PidsLimit = number(pids), number(fileIn(t.Cgroups, "pids.max"))
	}
	if !cpu || !memory || pids == "" {
		sum := t.processes()
		if !cpu {
			s.CPU, s.CPUUser, s.CPUSystem = sum.CPU, sum.CPUUser, sum.CPUSystem
		}
		if !memory {
			s.Memory, s.MemoryLimit = sum.Memory, sum.MemoryLimit
		}
		if pids == "" {
			s.Pids, s.PidsLimit = sum.Pids, sum.PidsLimit
		}
	}
	t.devices(&s)
	t.network(&s)
	if t.gone(0) { // then what was read may be of another, or of none
		return Stats{}, os.ErrProcessDone
	}
	return s, nil
}

// processors reads the processor time, and reports whether a cgroup counts it.
func (t *Target) processors(s *Stats) bool {
	if path := fileIn(t.Cgroups, "cpuacct.usage"); path != "" {
		s.CPU = time.Duration(number(path))
		split := table(filepath.Join(filepath.Dir(path), "cpuacct.stat"))
		s.CPUUser, s.CPUSystem = ticks(split["user"]), ticks(split["system"])
		return true
	}
	use := table(fileIn(t.Cgroups, "cpu.stat"))
	s.CPU = time.Duration(use["usage_usec"]) * time.Microsecond
	s.CPUUser = time.Duration(use["user_usec"]) * time.Microsecond
	s.CPUSystem = time.Duration(use["system_usec"]) * time.Microsecond
	_, counted := use["usage_usec"] // version 1 has a file of that name without it
	return counted
}

// memory reads the memory, and reports whether a cgroup counts it.
func (t *Target) memory(s *Stats) bool {
	stat, inactive, limit := table(fileIn(t.Cgroups, "memory.stat")), "inactive_file", "memory.max"
	if usage := fileIn(t.Cgroups, "memory.current"); usage != "" {
		s.Memory = number(usage)
	} else if usage := fileIn(t.Cgroups, "memory.usage_in_bytes"); usage != "" {
		s.Memory, inactive, limit = number(usage), "total_inactive_file", "memory.limit_in_bytes"
	} else {
		return false
	}
	s.Memory = max(s.Memory-stat[inactive], 0)
	s.MemoryLimit = table("/proc/meminfo")["MemTotal:"] << 10
	if own := number(fileIn(t.Cgroups, limit)); own > 0 {
		s.MemoryLimit = min(s.MemoryLimit, own)
	}
	return true
}

// processes adds up what each process uses, and those used that it has waited for.
func (t *Target) processes() (s Stats) {
	s.MemoryLimit, s.PidsLimit = table("/proc/meminfo")["MemTotal:"]<<10, -1
	for _, pid := range t.inNamespace() {
		dir := "/proc/" + strconv.Itoa(pid)
		b, _ := os.ReadFile(dir + "/stat")
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // state, and the fields from number 4 on
		if len(f) < 18 {
			continue // it has ended
		}
		n := make([]int64, len(f))
		for i := range f {
			n[i], _ = strconv.ParseInt(f[i], 10, 64)
		}
		s.CPUUser += ticks(n[11] + n[13])
		s.CPUSystem += ticks(n[12] + n[14])
		s.Pids += n[17]
		status := table(dir + "/status")
		s.Memory += (status["RssAnon:"] + status["RssShmem:"]) << 10
	}
	s.CPU = s.CPUUser + s.CPUSystem
	return s
}

// devices adds up what was read from and written to block devices.
func (t *Target) devices(s *Stats) {
	eachFields(fileIn(t.Cgroups, "io.stat"), func(f []string) { // 8:0 rbytes=1 wbytes=2 …
		for _, field := range f {
			key, value, _ := strings.Cut(field, "=")
			n, _ := strconv.ParseInt(value, 10, 64)
			switch key {
			case "rbytes":
				s.Read += n
			case "wbytes":
				s.Written += n
			}
		}
	})
	eachFields(fileIn(t.Cgroups, "blkio.throttle.io_service_bytes_recursive"), func(f []string) { // 8:0 Read 1
		if len(f) != 3 {
			return
		}
		n, _ := strconv.ParseInt(f[2], 10, 64)
		switch f[1] {
		case "Read":
			s.Read += n
		case "Write":
			s.Written += n
		}
	})
}

// network adds up the interfaces of the container's network namespace.
func (t *Target) network(s *Stats) {
	eachFields("/proc/"+strconv.Itoa(t.Pid)+"/net/dev", func(f []string) { // eth0: 1 … (8 numbers received) 2 … (8 sent)
		name, first, _ := strings.Cut(f[0], ":") // there may be no space after it
		if first != "" {
			f = slices.Insert(f, 1, first)
		}
		if len(f) < 17 || name == "lo" {
			return
		}
		in, _ := strconv.ParseInt(f[1], 10, 64)
		out, _ := strconv.ParseInt(f[9], 10, 64)
		s.Received += in
		s.Sent += out
	})
}

// Processes are the numbers of the container's processes, in order.
func (t *Target) Processes() (pids []int, err error) {
	if len(t.Cgroups) == 0 {
		pids = t.inNamespace()
	} else {
		pids = members(t.Cgroups)
	}
	if t.gone(0) {
		return nil, os.ErrProcessDone
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// inNamespace are the processes in the container's pid namespace.
func (t *Target) inNamespace() (pids []int) {
	own, err := os.Readlink("/proc/" + strconv.Itoa(t.Pid) + "/ns/pid")
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, l := range links {
		if its, _ := os.Readlink(l); its == own {
			pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// userHZ is how many ticks the kernel tells programs a second has, on every architecture.
const userHZ = 100

func ticks(n int64) time.Duration { return time.Duration(n) * time.Second / userHZ }

// machineTime is the time of all processors since the machine began, busy or not, as docker counts it.
func machineTime() (sum time.Duration) {
	eachFields("/proc/stat", func(f []string) { // cpu user nice system idle iowait irq softirq …
		if f[0] == "cpu" && len(f) > 8 {
			for _, field := range f[1:8] {
				n, _ := strconv.ParseInt(field, 10, 64)
				sum += ticks(n)
			}
		}
	})
	return sum
}

// number is the content of a file, -1 if it says "max", 0 if there is none.
func number(path string) (n int64) {
	eachFields(path, func(f []string) {
		if f[0] == "max" {
			n = -1
		} else if v, err := strconv.ParseInt(f[0], 10, 64); err == nil {
			n = v
		}
	})
	return n
}

// table is the content of a file of lines that are a name and a number.
func table(path string) map[string]int64 {
	t := map[string]int64{}
	eachFields(path, func(f []string) {
		if len(f) > 1 {
			t[f[0]], _ = strconv.ParseInt(f[1], 10, 64)
		}
	})
	return t
}

// eachFields calls f with the fields of each line that has any. A file that cannot be read has no lines.
func eachFields(path string, f func(fields []string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			f(fields)
		}
	}
}
