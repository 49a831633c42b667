// Command bench measures forge against floors and peers in the same run, and prints medians and ratios. Absolute times
// are this machine's, now; only the ratios can be compared.
//
// usage: bench [-n RUNS] [-only SUBSTRING] [-history FILE] [-kept FILE [-keep]] [-growth FILE.svg] FORGE
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	var o options
	flag.IntVar(&o.runs, "n", 7, "counted runs of each command, at most; 1 is one run of each, without what takes minutes")
	flag.StringVar(&o.only, "only", "", "only cases whose name contains this")
	flag.StringVar(&o.history, "history", "", "append a line of JSON about this run to this file")
	flag.StringVar(&o.kept, "kept", "", "show the ratios to the floor beside those that this file has kept")
	flag.BoolVar(&o.keep, "keep", false, "write the ratios of this run to the file of -kept")
	flag.StringVar(&o.growth, "growth", "", "measure how times grow, instead, and draw it into this file")
	flag.Parse()
	if flag.NArg() != 1 || o.keep && o.kept == "" {
		fmt.Fprintln(os.Stderr, "usage: bench [-n RUNS] [-only SUBSTRING] [-history FILE] [-kept FILE [-keep]] [-growth FILE.svg] FORGE")
		os.Exit(2)
	}
	forge, err := filepath.Abs(flag.Arg(0))
	if err == nil {
		err = measure(forge, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	runs          int
	only, history string
	kept          string
	keep          bool
	growth        string
}

// A bench is one machine's session: a store and contexts in a directory of its own.
type bench struct {
	options
	forge string
	dir   string
	peer  string    // buildah, or ""
	kit   *buildkit // or nil

	served  string // address of the registry; "" before it is needed
	serving bool   // docker's API, at socket
	report  report
	end     []func() error
}

func measure(forge string, o options) error {
	dir, err := os.MkdirTemp("", "forge-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, forge: forge, dir: dir}
	if path, err := exec.LookPath("buildah"); err == nil {
		b.peer = path
	}
	if err := os.Setenv("FORGE_ROOT", filepath.Join(dir, "store")); err != nil {
		return err
	}
	if err := b.base(); err != nil {
		return fmt.Errorf("base image: %w", err)
	}
	if err := b.report.open(o.kept); err != nil {
		return err
	}
	err = b.all()
	for _, end := range b.end {
		err = errors.Join(err, end())
	}
	return errors.Join(err, b.endContainers(), b.report.close(o))
}

// all measures what the options say.
func (b *bench) all() error {
	if b.growth != "" {
		return b.measureGrowth()
	}
	b.report.header()
	var errs []error
	for _, c := range slices.Concat(cases(), workCases(), containerCases(), dockerCases()) {
		if !strings.Contains(c.name, b.only) || c.long && b.runs == 1 && b.only == "" {
			continue
		}
		if err := b.run(c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}
