package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// waitPeak waits for a process, and returns the most memory that it had, in KiB. What wait4 tells counts the process that started it, too.
func waitPeak(cmd *exec.Cmd) (peak int, err error) {
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { peak = peakMemory(cmd.Process.Pid, ended) })
	err = cmd.Wait()
	close(ended)
	watch.Wait()
	return peak, err
}

// peakMemory looks at a process until it has ended, and returns the most memory that it had, in KiB.
func peakMemory(pid int, ended <-chan struct{}) (peak int) {
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, after, _ := strings.Cut(string(status), "VmHWM:")
		if fields := strings.Fields(after); len(fields) > 0 {
			if n, err := strconv.Atoi(fields[0]); err == nil {
				peak = max(peak, n)
			}
		}
		select {
		case <-ended:
			return peak
		case <-time.After(10 * time.Millisecond):
		}
	}
}
