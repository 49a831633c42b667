package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	idleContainers = 100
	idleTime       = 10 * time.Second // after which a monitor to whom nothing happens sleeps
)

// idleCase prints what containers that do nothing take of this machine, beside what docker's shim is known to take, and
// removes them. It has no times.
func idleCase(b *bench) ([]contestant, error) {
	var ids []string
	for i := range idleContainers {
		name := fmt.Sprintf("idle%d", i)
		if err := b.quietly("run", "-d", "-p", "80", "--name", name, "bench/base", "sleep", "100000"); err != nil {
			return nil, err
		}
		ids = append(ids, name)
	}
	time.Sleep(idleTime)
	out, err := exec.Command(b.forge, append([]string{"inspect", "-f", "{{.State.Pid}}"}, ids...)...).Output()
	if err != nil {
		return nil, err
	}
	var memory, ticks int64
	for _, pid := range strings.Fields(string(out)) {
		supervisor := parent(pid)
		for _, p := range []string{supervisor, parent(supervisor)} {
			memory += private(p)
			ticks -= cpuTicks(p)
		}
	}
	time.Sleep(idleTime)
	for _, pid := range strings.Fields(string(out)) {
		supervisor := parent(pid)
		ticks += cpuTicks(supervisor) + cpuTicks(parent(supervisor))
	}
	fmt.Printf("%-34s %-26s %7d kB private each, monitor and supervisor; %.2f %% of a processor, all together\n",
		"memory of 100 idle containers", "forge", memory/idleContainers, float64(ticks)/idleTime.Seconds()) // 100 ticks a second
	return nil, b.quietly(append([]string{"rm", "-f"}, ids...)...)
}

// parent is the number of a process's parent.
func parent(pid string) string { return field("/proc/"+pid+"/status", "PPid:") }

// private is the memory that is a process's alone, in KiB.
func private(pid string) (sum int64) {
	for _, name := range []string{"Private_Clean:", "Private_Dirty:"} {
		n, _ := strconv.ParseInt(field("/proc/"+pid+"/smaps_rollup", name), 10, 64)
		sum += n
	}
	return sum
}

// field is the word behind a name in a file of /proc; "" if there is none.
func field(path, name string) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == name {
			return words[1]
		}
	}
	return ""
}

// cpuTicks is the processor time of a process.
func cpuTicks(pid string) int64 {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	words := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, userErr := strconv.ParseInt(words[11], 10, 64)
	system, systemErr := strconv.ParseInt(words[12], 10, 64)
	if errors.Join(userErr, systemErr) != nil {
		return 0
	}
	return user + system
}
