package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// A contestant is one command of a case.
type contestant struct {
	name   string
	before func() error // not counted; may be nil
	args   []string
	do     func() error // instead of args, by this process
	floor  bool         // what it takes cannot be beaten by much
	peer   bool         // it is left out where it does not work
}

// A benchCase compares forge (first) with floors and peers.
type benchCase struct {
	name     string
	setup    func(*bench) ([]contestant, error)
	runs     int  // 0 is the bench's
	divideBy int  // a time is of this many steps; 0 is 1
	long     bool // it takes a minute and more: not with -n 1, unless -only asks for it
}

// errLeftOut says that a case cannot be measured on this machine.
var errLeftOut = errors.New("left out")

// run measures the contestants of a case in turn, A B C A B C …, so that a machine that slows down slows all of them.
func (b *bench) run(c benchCase) error {
	contestants, err := c.setup(b)
	if errors.Is(err, errLeftOut) {
		fmt.Printf("%-38s %v\n", c.name, err)
		return nil
	}
	if err != nil {
		return err
	}
	runs, warm := b.runs, 1
	if c.runs > 0 {
		runs = min(c.runs, b.runs)
	}
	if runs == 1 {
		warm = 0
	}
	if contestants, err = b.present(contestants); err != nil {
		return err
	}
	rows := make([]row, len(contestants))
	for round := range runs + warm {
		for i, k := range contestants {
			rows[i].Case, rows[i].Command, rows[i].floor = c.name, k.name, k.floor
			if k.before != nil {
				if err := k.before(); err != nil {
					return err
				}
			}
			d, rss, err := k.timed()
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if round >= warm {
				rows[i].Times = append(rows[i].Times, (d / time.Duration(max(1, c.divideBy))).Seconds())
			}
			rows[i].RSS = max(rows[i].RSS, rss>>10)
		}
	}
	b.report.add(rows)
	return nil
}

// present leaves out the peers that do not work on this machine: what they do is no failure of forge.
func (b *bench) present(contestants []contestant) ([]contestant, error) {
	var list []contestant
	for i, k := range contestants {
		if i > 0 && k.peer {
			if k.before != nil {
				if err := k.before(); err != nil {
					return nil, err
				}
			}
			if _, _, err := k.timed(); err != nil {
				fmt.Printf("%s is left out: %v\n", k.name, err)
				continue
			}
		}
		list = append(list, k)
	}
	return list, nil
}

// timed runs a command and returns how long it took and the peak of its own resident memory, in KiB, as far as it was seen while it ran:
// what wait4 tells counts this process, too, which started it.
func (k *contestant) timed() (time.Duration, int64, error) {
	if k.do != nil {
		began := time.Now()
		err := k.do()
		return time.Since(began), 0, err
	}
	var out bytes.Buffer
	cmd := exec.Command(k.args[0], k.args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- watchPeak(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	d := time.Since(began)
	close(ended)
	seen := <-peak
	if err != nil {
		return d, 0, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return d, seen, nil
}

// watchPeak looks at the most resident memory that a process has had, in KiB, until it has ended.
func watchPeak(pid int, ended <-chan struct{}) (peak int64) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
		var n int64
		if _, err := fmt.Sscan(string(after), &n); err == nil {
			peak = max(peak, n)
		}
		select {
		case <-ended:
			return peak
		case <-time.After(wait):
		}
	}
}

// median is that of a list that has something in it.
func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// commit is what the history calls this version: the last commit, if git knows.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// load is the load of the machine in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
