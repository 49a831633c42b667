package runtime

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Stuck thread waits in the kernel for a device or a server that does not answer (state D of ps), and SIGKILL, which was sent to it, does not
// reach it there. Two that are equal, at two times, are one wait.
type Stuck struct {
	Pid      int // of its process
	Name     string
	thread   string
	switches string // how often it has waited
}

// Stuck are the threads of the container that are stuck now.
func (r Ref) Stuck() (list []Stuck) {
	pids := members(r.Cgroups)
	if began, err := startTime(r.Pid); len(r.Cgroups) == 0 && err == nil && began == r.Started {
		pids = []int{r.Pid}
	}
	for _, pid := range pids {
		threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
		for _, file := range threads {
			status, _ := os.ReadFile(file)
			if bytes.HasPrefix(statusField(status, "State"), []byte("D")) && wasKilled(status) {
				list = append(list, Stuck{pid, string(statusField(status, "Name")), file, string(statusField(status, "voluntary_ctxt_switches"))})
			}
		}
	}
	return list
}

// wasKilled reports whether SIGKILL waits for the thread of a status in /proc.
func wasKilled(status []byte) bool {
	set, err := strconv.ParseUint(string(statusField(status, "SigPnd")), 16, 64)
	return err == nil && set&(1<<(unix.SIGKILL-1)) != 0
}

// statusField is a field of a status in /proc.
func statusField(status []byte, name string) []byte {
	_, value, _ := bytes.Cut(append([]byte("\n"), status...), []byte("\n"+name+":\t"))
	value, _, _ = bytes.Cut(value, []byte("\n"))
	return value
}
