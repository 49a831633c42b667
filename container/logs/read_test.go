package logs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/container/logs"
)

// written makes a log of n lines, one each second, every third one on the other stream, in files of six lines.
func written(t *testing.T, n int, c logs.Config) string {
	path := filepath.Join(t.TempDir(), "c-json.log")
	w := open(t, path, c)
	for i := range n {
		w.Write(logs.Stdout+logs.Stream(i%3/2), fmt.Appendf(nil, "%02d\n", i), at(i))
	}
	w.Close()
	return path
}

// TestRead: which records are shown, and how.
func TestRead(t *testing.T) {
	all := logs.Config{MaxSize: 372, MaxFiles: 9}
	zipped := all
	zipped.Compress = true
	details := logs.Config{MaxFiles: 1, Attrs: `{"b":"x y","a":"1,=2"}`}
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			if i%3 == 2 {
				fmt.Fprintf(&b, "[%02d]\n", i)
			} else {
				fmt.Fprintf(&b, "%02d\n", i)
			}
		}
		return b.String()
	}
	for _, test := range []struct {
		name string
		c    logs.Config
		o    logs.Options
		want string
	}{
		{"all", all, logs.Options{Tail: -1}, lines(0, 20)},
		{"all, compressed", zipped, logs.Options{Tail: -1}, lines(0, 20)},
		{"none", all, logs.Options{}, ""},
		{"last", all, logs.Options{Tail: 1}, lines(19, 20)},
		{"as many as the newest file has", all, logs.Options{Tail: 2}, lines(18, 20)},
		{"from the file before", all, logs.Options{Tail: 3}, lines(17, 20)},
		{"from the middle", all, logs.Options{Tail: 11}, lines(9, 20)},
		{"from the middle, compressed", zipped, logs.Options{Tail: 11}, lines(9, 20)},
		{"more than there are", zipped, logs.Options{Tail: 100}, lines(0, 20)},
		{"since", all, logs.Options{Tail: -1, Since: at(16)}, lines(16, 20)},
		{"until", zipped, logs.Options{Tail: -1, Until: at(3)}, lines(0, 4)},
		{"between", zipped, logs.Options{Tail: -1, Since: at(3), Until: at(7)}, lines(3, 8)},
		{"tail counts first", all, logs.Options{Tail: 5, Until: at(16)}, lines(15, 17)},
		{"times", logs.Config{MaxFiles: 1}, logs.Options{Tail: 1, Timestamps: true}, "2026-01-02T03:04:19.000000000Z 19\n"},
		{"details", details, logs.Options{Tail: 1, Details: true}, "a=1%2C%3D2,b=x+y 19\n"},
		{"no details", logs.Config{MaxFiles: 1}, logs.Options{Tail: 1, Details: true, Timestamps: true}, "2026-01-02T03:04:19.000000000Z  19\n"},
	} {
		path := written(t, 20, test.c)
		if got := read(t, path, test.o); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if got := read(t, filepath.Join(t.TempDir(), "absent"), logs.Options{Tail: -1}); got != "" {
		t.Errorf("no log is %q", got)
	}
	if err := logs.Read(t.Context(), written(t, 20, all), logs.Options{Tail: -1}, nil, nil); err != nil {
		t.Errorf("to nobody: %v", err)
	}
}

// TestDamage: lines that are no records are stepped over, also those without an end, and a compressed file that is cut off.
func TestDamage(t *testing.T) {
	path := written(t, 20, logs.Config{MaxSize: 372, MaxFiles: 9, Compress: true})
	text := contents(t, path)
	text = "\x00\x00\n" + text[:70] + "{\n\n" + text[70:] + strings.Repeat("x", 9<<20)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path+".2.gz", 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path+".3.gz", 3); err != nil {
		t.Fatal(err)
	}
	var told string
	got := read(t, path, logs.Options{Tail: -1, Notice: func(s string) { told = s }})
	if !strings.HasPrefix(got, "12\n13\n[14]\n") || !strings.HasSuffix(got, "17]\n18\n") || told != "5 damaged lines of the log are not shown" {
		t.Errorf("%q, told %q", got, told)
	}
}

// TestTailOfAHuge: the end of a long file is found without the reading of it all.
func TestTailOfAHugeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil { // a hole
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w := open(t, path, logs.Config{MaxFiles: 1})
	for i := range 5000 {
		w.Write(logs.Stdout, fmt.Appendf(nil, "%04d %s\n", i, strings.Repeat("x", 100)), at(0))
	}
	w.Close()
	if got := read(t, path, logs.Options{Tail: 3000}); !strings.HasPrefix(got, "2000 ") || strings.Count(got, "\n") != 3000 {
		t.Errorf("%d lines, the first is %.8q", strings.Count(got, "\n"), got)
	}
}

// TestFollow: through rotation of each kind, a restart of the container, and to the end.
func TestFollow(t *testing.T) {
	for _, c := range []logs.Config{
		{MaxFiles: 1}, {MaxSize: 2000, MaxFiles: 1}, {MaxSize: 2000, MaxFiles: 3}, {MaxSize: 2000, MaxFiles: 400, Compress: true},
	} {
		path := filepath.Join(t.TempDir(), "log")
		f := follow(t, path, logs.Options{Tail: -1}) // before there is a log
		var want strings.Builder
		w := open(t, path, c)
		for i := range 3000 {
			line := fmt.Sprintf("line %d\n", i)
			want.WriteString(line)
			w.Write(logs.Stdout, []byte(line), at(0))
			if i%500 == 499 {
				w.Close()
				w = open(t, path, c)
			}
			if i%7 == 0 {
				w.Flush()
				if c.MaxFiles < 10 && i%14 == 0 { // or else files are dropped before they are read
					f.sees(line)
				}
			}
		}
		w.Write(logs.Stdout, []byte("the end"), at(0))
		w.Close()
		if got := f.end(); got != want.String()+"the end" || len(f.told) > 0 {
			t.Errorf("%+v: shown are %d bytes of %d, told %q", c, len(got), want.Len(), f.told)
		}
	}
}

// TestFollowFast: a follower that is as fast as the writer sees every line, though files change their names under it.
func TestFollowFast(t *testing.T) {
	for _, c := range []logs.Config{{MaxSize: 100_000, MaxFiles: 200}, {MaxSize: 100_000, MaxFiles: 200, Compress: true}} {
		path := filepath.Join(t.TempDir(), "log")
		f := follow(t, path, logs.Options{Tail: -1})
		w := open(t, path, c)
		var want strings.Builder
		for i := range 100_000 {
			line := fmt.Sprintf("line %d\n", i)
			want.WriteString(line)
			w.Write(logs.Stdout, []byte(line), at(0))
		}
		w.Close()
		if got := f.end(); got != want.String() || len(f.told) > 0 {
			t.Errorf("%+v: shown are %d bytes of %d, told %q", c, len(got), want.Len(), f.told)
		}
	}
}

// TestFollowFrom: what is shown first, a log that somebody empties, records that are gone, and the ends of a follower.
func TestFollowFrom(t *testing.T) {
	path := written(t, 20, logs.Config{MaxSize: 372, MaxFiles: 9, Compress: true})
	tail := follow(t, path, logs.Options{Tail: 1})
	fresh := follow(t, path, logs.Options{})
	tail.sees("19\n")
	w := open(t, path, logs.Config{MaxFiles: 9}) // without rotation: an emptied file is to be shorter than it was
	until(t, "the other one has begun", func() bool {
		w.Write(logs.Stderr, []byte("probe\n"), at(20))
		w.Flush()
		return strings.Contains(fresh.String(), "probe\n")
	})
	w.Write(logs.Stderr, []byte("20\n"), at(20))
	w.Flush()
	tail.sees("20\n")
	fresh.sees("20\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	w.Write(logs.Stderr, []byte("21\n"), at(21))
	w.Close()
	if got := strings.ReplaceAll(tail.end(), "probe\n", ""); got != "19\n20\n21\n" {
		t.Errorf("from the tail: %q", got)
	}
	if got := strings.ReplaceAll(fresh.end(), "probe\n", ""); got != "20\n21\n" {
		t.Errorf("from the end: %q", got)
	}
	timed := follow(t, path, logs.Options{Tail: 1, Until: time.Now().Add(300 * time.Millisecond)})
	if err := <-timed.ended; err != nil || timed.String() != "21\n" {
		t.Errorf("until: %q, %v", timed, err)
	}
}

// TestFollowGone: a reader that was stopped for too long is told that records are gone, and goes on with those that are there.
func TestFollowGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, logs.Config{MaxSize: 372, MaxFiles: 2})
	w.Write(logs.Stdout, []byte("first\n"), at(0))
	w.Flush()
	f := follow(t, path, logs.Options{Tail: -1})
	f.sees("first\n")
	f.mu.Lock() // the reader hangs at the next record
	w.Write(logs.Stdout, []byte("second\n"), at(0))
	w.Flush()
	until(t, "the reader hangs", func() bool { return f.calls.Load() == 2 })
	for i := range 100 {
		w.Write(logs.Stdout, fmt.Appendf(nil, "%02d\n", i), at(0))
	}
	w.Close()
	f.mu.Unlock()
	got := f.end()
	if !strings.HasPrefix(got, "first\nsecond\n") || !strings.HasSuffix(got, "98\n99\n") || len(f.told) != 1 {
		t.Errorf("%q, told %q", got, f.told)
	}
}

// TestFollowHurried: a reader that does not keep up shows what it finds in its order and nothing twice, and says that
// something may be missing.
func TestFollowHurried(t *testing.T) {
	for _, c := range []logs.Config{{MaxSize: 50_000, MaxFiles: 2}, {MaxSize: 50_000, MaxFiles: 4, Compress: true}} {
		path := filepath.Join(t.TempDir(), "log")
		f := follow(t, path, logs.Options{Tail: -1})
		w := open(t, path, c)
		for i := range 300_000 {
			w.Write(logs.Stdout, fmt.Appendf(nil, "%06d\n", i), at(0))
		}
		w.Close()
		last, gaps := -1, 0
		for line := range strings.Lines(f.end()) {
			n, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || n <= last {
				t.Fatalf("%+v: %q after %d", c, line, last)
			}
			if last >= 0 && n != last+1 { // it may begin late
				gaps++
			}
			last = n
		}
		if last != 299_999 || gaps > len(f.told) {
			t.Errorf("%+v: the last line is %d; %d gaps, told %d times", c, last, gaps, len(f.told))
		}
	}
}

// BenchmarkFollow is a log that is written and followed at the same time; the writer does not wait.
func BenchmarkFollow(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	var seen counter
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- logs.Read(context.Background(), path, logs.Options{Tail: -1, Follow: true, Ended: stop}, &seen, nil)
	}()
	w := open(b, path, logs.Config{MaxSize: 10e6, MaxFiles: 3})
	chunk := []byte(strings.Repeat("2026-01-02 03:04:05 INFO request done in 12 ms\n", 1394))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		w.Write(logs.Stdout, chunk, time.Now())
		w.Flush()
	}
	w.Close()
	close(stop)
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(100*float64(seen)/float64(b.N*len(chunk)), "%seen")
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
