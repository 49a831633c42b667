package runtime

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nothing makes a program that does nothing, which is what is left when a container costs nothing.
func nothing(b *testing.B) (root *os.File) {
	dir := rootfs(b)
	p := &program{}
	p.call(unix.SYS_EXIT_GROUP, num(0))
	writeProgram(b, filepath.Join(dir, "bin/nothing"), p, 0)
	return openDir(b, dir)
}

func BenchmarkStart(b *testing.B) {
	root := nothing(b)
	for _, command := range []string{"nothing", "true"} {
		b.Run(command, func(b *testing.B) {
			s := Spec{Root: root, Args: []string{command}, Env: []string{"PATH=/bin"}}
			before := cpuTime(b)
			var each []time.Duration
			for b.Loop() {
				began := time.Now()
				p, err := Start(context.Background(), s, Stdio{})
				if err != nil {
					b.Fatal(err)
				}
				if exit, err := p.Wait(); exit.Code != 0 || err != nil {
					b.Fatal(exit, err)
				}
				each = append(each, time.Since(began))
			}
			// What the machine does, and the best it does, whatever else it has to do.
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(slices.Min(each)), "min-ns/op")
		})
	}
}

// BenchmarkJoin is to be compared with BenchmarkStart.
func BenchmarkJoin(b *testing.B) {
	_, target := running(b, Spec{Root: nothing(b)})
	s := Spec{Args: []string{"nothing"}, Env: []string{"PATH=/bin"}}
	before := cpuTime(b)
	for b.Loop() {
		p, err := Join(context.Background(), target, s, Stdio{})
		if err != nil {
			b.Fatal(err)
		}
		if exit, err := p.Wait(); exit.Code != 0 || err != nil {
			b.Fatal(exit, err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process and its children have used.
func cpuTime(b *testing.B) time.Duration {
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += u.Utime.Nano() + u.Stime.Nano()
	}
	return time.Duration(sum)
}

// BenchmarkSteps measures the steps of the set-up from within: the median of each step that takes more than 10 µs.
func BenchmarkSteps(b *testing.B) {
	s := Spec{Root: nothing(b), Args: []string{"nothing"}, Env: []string{"PATH=/bin"}}
	steps := map[string][]int64{}
	for b.Loop() {
		names, times := timedStart(b, s)
		sums, last := map[string]int64{}, int64(0)
		for i, t := range times {
			if last != 0 && t != 0 {
				sums[names[i]] += t - last
			}
			if t != 0 {
				last = t
			}
		}
		for name, d := range sums {
			steps[name] = append(steps[name], d)
		}
	}
	for name, list := range steps {
		slices.Sort(list)
		if median := list[len(list)/2]; median > 10_000 {
			b.ReportMetric(float64(median), strings.ReplaceAll(filepath.Base(name), " ", "-")+"-ns")
		}
	}
}

// timedStart runs a container whose program notes the time after each op, and returns the steps and times.
func timedStart(b *testing.B, s Spec) (names []string, times []int64) {
	set := &setup{spec: &s, netns: newNetns()}
	defer set.close()
	p := &Process{gone: make(chan struct{}), ctx: context.Background(), stop: func() bool { return true }}
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if err := set.plumb(p, Stdio{Out: w}); err != nil {
		b.Fatal(err)
	}
	tail, err := set.plan()
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range set.ops {
		names = append(names, o.step)
	}
	if err := set.launch(p, set.instrument(tail)); err != nil {
		b.Fatal(err)
	}
	w.Close()
	if err := p.follow(set, Stdio{}); err != nil {
		b.Fatal(err)
	}
	p.running = true
	p.Wait()
	stamps, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	for ; len(stamps) >= 16; stamps = stamps[16:] {
		times = append(times, int64(binary.NativeEndian.Uint64(stamps))*1e9+int64(binary.NativeEndian.Uint64(stamps[8:])))
	}
	return names, times
}

// instrument puts a call that notes the time after every op, and one that writes the notes to standard output before the
// first execve. It returns where the tail is now.
func (s *setup) instrument(tail int) int {
	stamps := s.space(16 * len(s.ops))
	var ops []*op
	written := false
	for i, o := range s.ops {
		if o.nr == unix.SYS_EXECVE && !written {
			written = true
			ops = append(ops, &op{nr: unix.SYS_WRITE, args: [6]arg{num(1), stamps, num(16 * i)}})
		}
		o.skip *= 2
		for j := range o.args {
			if o.args[j].part == inOps {
				o.args[j].n *= 2
			}
		}
		ops = append(ops, o, &op{nr: unix.SYS_CLOCK_GETTIME, args: [6]arg{num(unix.CLOCK_MONOTONIC), stamps.plus(16 * i)}})
	}
	s.ops = ops
	return 2 * tail
}
