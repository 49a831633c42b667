package executor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/planner"
)

func TestLineWriter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		name  string
		write []string
		want  []string
		tail  string
	}{
		{"lines", []string{"a\nb\n"}, []string{"a", "b"}, "a\nb"},
		{"in pieces", []string{"a", "b\nc", "d\n"}, []string{"ab", "cd"}, "ab\ncd"},
		{"no end", []string{"a\nb"}, []string{"a", "b"}, "a\nb"},
		{"empty lines", []string{"\n\na\n"}, []string{"", "", "a"}, "\n\na"},
		{"progress", []string{"10%\r20%\r\ndone"}, []string{"20%", "done"}, "20%\ndone"},
		{"progress that is wiped", []string{"10%\r20%\r   \r\ndone\n"}, []string{"20%", "done"}, "20%\ndone"},
		{"progress without an end", []string{"10%\r", "20%\r"}, []string{"20%"}, "20%"},
		{"progress before a line", []string{"10%\r      \rdone\n"}, []string{"done"}, "done"},
		{"cr and lf apart", []string{"a\r", "\nb\n"}, []string{"a", "b"}, "a\nb"},
		{"two crs", []string{"a\r\rb"}, []string{"b"}, "b"},
		{"nothing", []string{""}, nil, ""},
		{"too long", []string{long + "yz\n"}, []string{long, "yz"}, "yz"},
		{"many", []string{strings.Repeat("l\n", 30)}, slices.Repeat([]string{"l"}, 30), strings.Repeat("l\n", tailLines-1) + "l"},
	} {
		var got []string
		w := &lineWriter{emit: func(kind event.Kind, line string) {
			if kind == event.Log {
				got = append(got, line)
			}
		}}
		for _, s := range test.write {
			if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
				t.Errorf("%s: Write = %d, %v", test.name, n, err)
			}
		}
		tail := string(w.close())
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: lines = %.100q, want %.100q", test.name, got, test.want)
		}
		if tail != test.tail {
			t.Errorf("%s: tail = %.100q, want %.100q", test.name, tail, test.tail)
		}
	}
}

// A line that is written over and over is reported ten times a second at most, and then as it ended.
func TestLineWriterProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		w := &lineWriter{emit: func(kind event.Kind, line string) { got = append(got, fmt.Sprint(kind, " ", line)) }}
		for i := range 100 {
			fmt.Fprintf(w, "%d%%\r", i)
			time.Sleep(progressEvery / 4)
		}
		fmt.Fprint(w, "\n")
		if want := "log 99%"; len(got) != 26 || got[1] != "progress 4%" || got[25] != want {
			t.Errorf("%d events came: %q; want 26, the last %q", len(got), got, want)
		}
	})
}

func TestSteps(t *testing.T) {
	t.Parallel()
	var maker graphMaker
	add := func(on *planner.Step, stage, platform, target string) *planner.Step {
		s := maker.run("x", on)
		s.Stage, s.Platform, s.Target = stage, platform, target
		return s
	}
	shared := add(nil, "b", "amd64", "")
	add(add(shared, "b", "amd64", ""), "0", "amd64", "")
	last := add(add(shared, "b", "amd64", "arm64"), "b", "amd64", "arm64")
	var got []string
	for _, s := range Steps(maker.graph(last)) {
		got = append(got, fmt.Sprintf("#%d %s %d/%d %s%s", s.Number, s.Stage, s.Index, s.Count, s.Platform, s.Target))
	}
	want := []string{"#1 b 1/2 amd64", "#2 b 2/2 amd64", "#3 0 1/1 amd64", "#4 b 2/3 amd64arm64", "#5 b 3/3 amd64arm64"}
	if !slices.Equal(got, want) {
		t.Errorf("steps are %q, want %q", got, want)
	}
}
