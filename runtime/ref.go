package runtime

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// A Ref names a running container in what processes write down for each other. The start time tells its process from a
// later one of the same number.
type Ref struct {
	Pid     int      // of the container's first process
	Started uint64   // when that began: ticks since the machine's start, as in /proc/PID/stat
	Cgroups []string // directories, one a hierarchy
}

// Ref returns what names the container. It is os.ErrProcessDone that the process has ended.
func (p *Process) Ref() (Ref, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ref()
}

// ref is Ref, with mu held.
func (p *Process) ref() (Ref, error) {
	if p.pidfd == nil {
		return Ref{}, os.ErrProcessDone
	}
	pid := pidOf(p.pidfd)
	started, err := startTime(pid)
	if err != nil {
		return Ref{}, err
	}
	return Ref{Pid: pid, Started: started, Cgroups: p.cgroup.directories()}, nil
}

// startTime is when a process began, in ticks since the machine's start: field 22 of its stat, counted from behind the
// name, in which there may be anything.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, os.ErrProcessDone
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
