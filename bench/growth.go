package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A series is how long something takes with more and more of what it is about.
type series struct {
	name   string
	unit   string
	at     []int
	setup  func(b *bench, n int) ([]contestant, error) // the first is measured
	points []float64                                   // seconds, by at
}

func growing() []*series {
	return []*series{
		{name: "no-op, files of a context", unit: "files", at: []int{5_000, 50_000, 200_000}, setup: grownNoop},
		{name: "one file changed", unit: "files", at: []int{5_000, 50_000, 200_000}, setup: countCase},
		{name: "no-op of 12 steps, entries in the cache", unit: "entries", at: []int{1_000, 4_000, 10_000}, setup: grownCache},
		{name: "list of images", unit: "images", at: []int{10, 100, 1_000}, setup: grownImages},
		{name: "list of containers", unit: "containers", at: []int{5, 50, 500}, setup: grownContainers},
		{name: "stages of sleep 1", unit: "stages", at: []int{1, 10, 100}, setup: stagesCase},
	}
}

// measureGrowth measures all series, prints them as a table, and draws them.
func (b *bench) measureGrowth() error {
	all := growing()
	fmt.Println("| what | of | time | growth |\n| --- | --- | --- | --- |")
	for _, s := range all {
		if !strings.Contains(s.name, b.only) {
			continue
		}
		for _, n := range s.at {
			list, err := s.setup(b, n)
			if err != nil {
				return fmt.Errorf("%s, %d: %w", s.name, n, err)
			}
			var times []float64
			for range min(b.runs, 5) + 1 {
				if before := list[0].before; before != nil {
					if err := before(); err != nil {
						return err
					}
				}
				d, _, err := list[0].timed()
				if err != nil {
					return fmt.Errorf("%s, %d: %w", s.name, n, err)
				}
				times = append(times, d.Seconds())
			}
			s.points = append(s.points, median(times[1:])) // the first one fills the cache
		}
		fmt.Println(s)
	}
	return os.WriteFile(b.growth, []byte(plot(all)), 0o644)
}

// String is the row of the table. The growth is the exponent between the last two points: 1 is linear.
func (s *series) String() string {
	var of, times []string
	for i, n := range s.at {
		of, times = append(of, fmt.Sprint(n)), append(times, short(s.points[i]))
	}
	last := len(s.at) - 1
	growth := math.Log(s.points[last]/s.points[last-1]) / math.Log(float64(s.at[last])/float64(s.at[last-1]))
	return fmt.Sprintf("| %s | %s %s | %s | %.2f |", s.name, strings.Join(of, ", "), s.unit, strings.Join(times, ", "), growth)
}

func grownNoop(b *bench, n int) ([]contestant, error) {
	dir, err := b.count(n)
	return b.builds(dir, nil)[:1], err
}

// grownCache fills the cache with the answers to steps that write nothing.
func grownCache(b *bench, n int) ([]contestant, error) {
	for have := 0; have < n; have += 200 {
		var file strings.Builder
		file.WriteString("FROM bench/base\n")
		for i := range 200 {
			fmt.Fprintf(&file, "RUN [\"true\", \"%d %d\"]\n", have, i)
		}
		dir, err := b.context("filling", file.String(), nil)
		if err != nil {
			return nil, err
		}
		if err := b.quietly("build", "-q", dir); err != nil { // those of before are in the cache
			return nil, err
		}
	}
	return noopCase(b)
}

// grownImages builds images by the hundred.
func grownImages(b *bench, n int) ([]contestant, error) {
	for from := 0; from < n; from += 100 {
		var bake strings.Builder
		for i := from; i < min(from+100, n); i++ {
			fmt.Fprintf(&bake, "target \"t%d\" {\n  args = { N = \"%d\" }\n  tags = [\"bench/many:%d\"]\n}\n", i, i, i)
		}
		dir, err := b.context("images", "FROM bench/base\nARG N\nLABEL n=$N\n", map[string]string{"docker-bake.hcl": bake.String()})
		if err != nil {
			return nil, err
		}
		out, _, err := (&contestant{args: []string{"env", "-C", dir, b.forge, "bake", "--progress=plain", "t*"}}).timed()
		if err != nil {
			return nil, fmt.Errorf("%w after %v", err, out)
		}
	}
	return []contestant{{args: []string{b.forge, "images"}}}, nil
}

func grownContainers(b *bench, n int) ([]contestant, error) {
	for i := range n {
		name := fmt.Sprintf("grown%d", i)
		if _, err := os.Lstat(filepath.Join(os.Getenv("FORGE_ROOT"), "containers", "names", name)); err == nil {
			continue
		}
		if err := b.quietly("create", "--network", "none", "--name", name, "bench/base", "true"); err != nil {
			return nil, err
		}
	}
	return []contestant{{args: []string{b.forge, "ps", "-a"}}}, nil
}
