// Command bench measures forge against floors and peers in the same run, and prints medians and ratios. Absolute times
// are this machine's, now; only the ratios can be compared.
//
// usage: bench [-n RUNS] [-only SUBSTRING] FORGE
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	runs := flag.Int("n", 7, "counted runs of each command")
	only := flag.String("only", "", "only cases whose name contains this")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [-n RUNS] [-only SUBSTRING] FORGE")
		os.Exit(2)
	}
	forge, err := filepath.Abs(flag.Arg(0))
	if err == nil {
		err = measure(forge, *runs, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one machine's session: a store and contexts in a directory of its own.
type bench struct {
	forge string
	dir   string
	runs  int
	peer  string // buildah, or ""

	served string // address of the registry; "" before it is needed
	end    []func() error
}

// A contestant is one command of a case.
type contestant struct {
	name   string
	before func() error // not counted; may be nil
	args   []string
	do     func() error // instead of args, by this process
}

// A benchCase compares forge (first) with floors and peers.
type benchCase struct {
	name     string
	setup    func(*bench) ([]contestant, error)
	runs     int // 0 is the bench's
	divideBy int // a time is of this many steps; 0 is 1
}

func measure(forge string, runs int, only string) error {
	dir, err := os.MkdirTemp("", "forge-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{forge: forge, dir: dir, runs: runs}
	if path, err := exec.LookPath("buildah"); err == nil {
		b.peer = path
	}
	if err := os.Setenv("FORGE_ROOT", filepath.Join(dir, "store")); err != nil {
		return err
	}
	if err := b.base(); err != nil {
		return fmt.Errorf("base image: %w", err)
	}
	fmt.Printf("%-34s %-26s %10s %10s %8s %9s\n", "case", "command", "median", "min", "ratio", "peak RSS")
	var errs []error
	for _, c := range append(cases(), containerCases()...) {
		if strings.Contains(c.name, only) {
			if err := b.run(c); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
		}
	}
	for _, end := range b.end {
		errs = append(errs, end())
	}
	return errors.Join(append(errs, b.endContainers())...)
}

// run measures the contestants of a case in turn, A B C A B C …, so that a machine that slows down slows all of them.
func (b *bench) run(c benchCase) error {
	contestants, err := c.setup(b)
	if err != nil {
		return err
	}
	runs := b.runs
	if c.runs > 0 {
		runs = c.runs
	}
	divide := time.Duration(max(1, c.divideBy))
	times := make([][]time.Duration, len(contestants))
	peak := make([]int64, len(contestants))
	for round := range runs + 1 {
		for i, k := range contestants {
			if k.before != nil {
				if err := k.before(); err != nil {
					return err
				}
			}
			d, rss, err := k.timed()
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if round > 0 { // the first warms up
				times[i] = append(times[i], d/divide)
			}
			peak[i] = max(peak[i], rss)
		}
	}
	for i, k := range contestants {
		slices.Sort(times[i])
		slices.Sort(times[0])
		median, first := times[i][len(times[i])/2], times[0][len(times[0])/2]
		ratio := ""
		if i > 0 {
			ratio = fmt.Sprintf("×%.1f", float64(median)/float64(first))
		}
		fmt.Printf("%-34s %-26s %10s %10s %8s %6d MB\n", c.name, k.name, short(median), short(times[i][0]), ratio, peak[i]>>10)
	}
	return nil
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// timed runs a command and returns how long it took and the peak of its own resident memory, in KiB.
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
	err := cmd.Run()
	d := time.Since(began)
	if err != nil {
		return d, 0, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return d, usage.Maxrss, nil
}
