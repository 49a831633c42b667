package logs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/container/logs"
)

// TestLines: what is read becomes lines, whatever the borders of the reads were.
func TestLines(t *testing.T) {
	const out = `{"log":"%s","stream":"%s","time":"2026-01-02T03:04:0%dZ"}` + "\n"
	for _, test := range []struct {
		name  string
		write func(w *logs.Writer)
		want  string
	}{
		{
			"lines", func(w *logs.Writer) { w.Write(logs.Stdout, []byte("a\n\nb\n"), at(1)) },
			fmt.Sprintf(out+out+out, `a\n`, "stdout", 1, `\n`, "stdout", 1, `b\n`, "stdout", 1),
		},
		{"parts, streams apart", func(w *logs.Writer) {
			w.Write(logs.Stdout, []byte("a\nb"), at(1))
			w.Write(logs.Stderr, []byte("e\n"), at(2))
			w.Write(logs.Stdout, []byte("c\n"), at(3))
		}, fmt.Sprintf(out+out+out, `a\n`, "stdout", 1, `e\n`, "stderr", 2, `bc\n`, "stdout", 3)},
		{
			"no end", func(w *logs.Writer) { w.Write(logs.Stdout, []byte("a"), at(1)); w.End(logs.Stdout, at(2)) },
			fmt.Sprintf(out, `a`, "stdout", 2),
		},
		{"no end after 16 KiB, and another run", func(w *logs.Writer) {
			w.Write(logs.Stdout, bytes.Repeat([]byte("x"), 16<<10), at(1))
			w.End(logs.Stdout, at(2))
			w.Write(logs.Stdout, []byte("a\n"), at(3))
		}, fmt.Sprintf(out+out, strings.Repeat("x", 16<<10), "stdout", 1, `a\n`, "stdout", 3)},
		{"a character in two reads", func(w *logs.Writer) {
			w.Write(logs.Stdout, []byte("\xe2\x82"), at(1))
			w.Write(logs.Stdout, []byte("\xac\n"), at(1))
		}, fmt.Sprintf(out, `€\n`, "stdout", 1)},
	} {
		path := filepath.Join(t.TempDir(), "log")
		w := open(t, path, logs.Config{MaxFiles: 1})
		test.write(w)
		w.Close()
		if got := contents(t, path); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, test.want)
		}
	}
}

// TestLongLines: a line is cut every 16 KiB, as docker cuts it, and all its records have the time of the first.
func TestLongLines(t *testing.T) {
	for _, test := range []struct {
		n    int
		want []int
	}{
		{16383, []int{16384}}, {16384, []int{16384, 1}}, {16385, []int{16384, 2}}, {40000, []int{16384, 16384, 7233}}, {32768, []int{16384, 16384, 1}},
	} {
		for _, size := range []int{1, 4096, 16384, 65536} {
			path := filepath.Join(t.TempDir(), "log")
			w := open(t, path, logs.Config{MaxFiles: 1})
			text := []byte("a\n" + strings.Repeat("x", test.n) + "\nb\n")
			for n := 0; len(text) > 0; n++ {
				part := text[:min(size, len(text))]
				w.Write(logs.Stdout, part, at(min(n, 50)))
				text = text[len(part):]
			}
			w.Close()
			var got []int
			var times []string
			for line := range strings.Lines(contents(t, path)) {
				var r struct{ Log, Time string }
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					t.Fatal(err)
				}
				got, times = append(got, len(r.Log)), append(times, r.Time)
			}
			if len(got) < 2 || !sameInts(got[1:len(got)-1], test.want) {
				t.Errorf("%d bytes, read by %d, are records of %d", test.n, size, got)
				continue
			}
			for _, is := range times[2 : len(times)-1] {
				if is != times[1] {
					t.Errorf("%d bytes, read by %d, have the times %s", test.n, size, times)
					break
				}
			}
		}
	}
}

func sameInts(a, b []int) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// TestRotation: a file that has reached its size is moved on before the next record, and the oldest one is dropped.
func TestRotation(t *testing.T) {
	record := func(n int) string {
		return fmt.Sprintf(`{"log":"%04d\n","stream":"stdout","time":"2026-01-02T03:04:00Z"}`+"\n", n)
	}
	size := int64(len(record(0)))
	for _, c := range []logs.Config{
		{MaxSize: 2 * size, MaxFiles: 1}, {MaxSize: 2*size - 1, MaxFiles: 3}, {MaxSize: 2 * size, MaxFiles: 3, Compress: true}, {MaxFiles: 1},
	} {
		path := filepath.Join(t.TempDir(), "log")
		var w *logs.Writer
		for n := range 9 {
			if n%4 == 0 { // a log is written on after a restart
				w.Close()
				w = open(t, path, c)
			}
			w.Write(logs.Stdout, fmt.Appendf(nil, "%04d\n", n), at(0))
			if n%3 == 0 { // the borders of writes do not matter
				w.Flush()
			}
		}
		w.Close()
		want := map[string]string{"log": record(8), "log.1": record(6) + record(7), "log.2": record(4) + record(5), "log.3": "-", "log.1.gz": "-", "log.2.gz": "-"}
		switch {
		case c.Compress:
			want["log.1"], want["log.1.gz"], want["log.2"], want["log.2.gz"] = "-", want["log.1"], "-", want["log.2"]
		case c.MaxSize == 0:
			want = map[string]string{"log": record(0) + record(1) + record(2) + record(3) + record(4) + record(5) + record(6) + record(7) + record(8)}
		case c.MaxFiles == 1:
			want["log.1"], want["log.2"] = "-", "-"
		}
		for file, text := range want {
			if got := contents(t, filepath.Join(filepath.Dir(path), file)); got != text {
				t.Errorf("%+v: %s holds\n%swant\n%s", c, file, got, text)
			}
		}
	}
}

// TestNoLog: a Writer that keeps nothing.
func TestNoLog(t *testing.T) {
	var w *logs.Writer
	w.Write(logs.Stdout, []byte("a\n"), at(0))
	w.Flush()
	w.End(logs.Stdout, at(0))
	w.Close()
	if _, err := logs.Open(filepath.Join(t.TempDir(), "absent", "log"), logs.Config{MaxFiles: 1}); err == nil || !strings.Contains(err.Error(), "absent/log: no such file") {
		t.Errorf("a log in no directory: %v", err)
	}
}

// TestTornLine: what a killed process left half written does not spoil what is written after it.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, logs.Config{MaxFiles: 1})
	w.Write(logs.Stdout, []byte("a\nb\n"), at(0))
	w.Close()
	if err := os.Truncate(path, int64(len(contents(t, path))-9)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path, logs.Options{Tail: -1}); got != "a\n" {
		t.Errorf("a torn line is shown: %q", got)
	}
	w = open(t, path, logs.Config{MaxFiles: 1})
	w.Write(logs.Stdout, []byte("c\n"), at(0))
	w.Close()
	var told string
	if got := read(t, path, logs.Options{Tail: -1, Notice: func(s string) { told = s }}); got != "a\nc\n" || told != "1 damaged lines of the log are not shown" {
		t.Errorf("after a torn line: %q, told %q", got, told)
	}
}

// TestFullDisk: while nothing can be written the writer goes on; then the log says what is missing, and nothing in it is
// torn. A limit of the size of files stands for the disk: it stops a write in the middle, as a full disk does.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("FORGE_TEST_FULL_DISK"); dir != "" {
		signal.Ignore(syscall.SIGXFSZ)
		fullDisk(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), "FORGE_TEST_FULL_DISK="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFullDisk")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNoNewFile: while no file can be made after a rotation, the files that there are stay.
func TestNoNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, logs.Config{MaxSize: 1, MaxFiles: 3})
	for n := range 3 {
		w.Write(logs.Stdout, fmt.Appendf(nil, "line %d\n", n), at(n))
	}
	w.Flush()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: files.Max}); err != nil {
		t.Fatal(err)
	}
	for n := range 9 {
		w.Write(logs.Stdout, fmt.Appendf(nil, "lost %d\n", n), at(n))
		w.Flush()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	w.Close()
	got := read(t, path, logs.Options{Tail: -1})
	if want := "line 1\nline 2\n[forge: 9 records of this log, 603 bytes, were lost: too many open files]\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// limit makes the largest file n bytes long; 0 is as long as it may be.
func limit(t *testing.T, n uint64) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = n
	if n == 0 {
		l.Cur = l.Max
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		t.Fatal(err)
	}
}

func fullDisk(t *testing.T, dir string) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test that can be repeated
	for round := range 200 {
		path := filepath.Join(dir, fmt.Sprint(round))
		w := open(t, path, logs.Config{MaxFiles: 1})
		sent, space := 0, uint64(random.IntN(900))
		for range 4 {
			limit(t, max(1, space))
			for range 10 {
				w.Write(logs.Stdout, fmt.Appendf(nil, "line %d\n", sent), at(0))
				sent++
				if random.IntN(3) == 0 {
					w.Flush()
				}
			}
			w.Flush()
			space += uint64(random.IntN(300))
		}
		limit(t, 0)
		w.Flush()
		w.Write(logs.Stdout, []byte("end\n"), at(0))
		w.Close()
		damaged := ""
		text := read(t, path, logs.Options{Tail: -1, Notice: func(s string) { damaged = s }})
		kept, lost := 0, 0
		for line := range strings.Lines(text) {
			var n, b int
			if _, err := fmt.Sscanf(strings.Trim(line, "[]\n"), "forge: %d records of this log, %d bytes, were lost: file too large", &n, &b); err == nil {
				lost += n
			} else if strings.HasPrefix(line, "line ") {
				kept++
			}
		}
		if kept+lost != sent || damaged != "" || !strings.HasSuffix(text, "end\n") {
			t.Fatalf("round %d: of %d lines %d are kept and %d said to be lost; %s\n%s\n%s", round, sent, kept, lost, damaged, text, contents(t, path))
		}
	}
}
