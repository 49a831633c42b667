package executor

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLineWriter(t *testing.T) {
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
		{"progress", []string{"10%\r20%\r\ndone"}, []string{"10%", "20%", "done"}, "10%\n20%\ndone"},
		{"cr and lf apart", []string{"a\r", "\nb\n"}, []string{"a", "b"}, "a\nb"},
		{"two crs", []string{"a\r\rb"}, []string{"a", "", "b"}, "a\n\nb"},
		{"nothing", []string{""}, nil, ""},
		{"too long", []string{long + "yz\n"}, []string{long, "yz"}, "yz"},
		{"many", []string{strings.Repeat("l\n", 30)}, slices.Repeat([]string{"l"}, 30), strings.Repeat("l\n", tailLines-1) + "l"},
	} {
		var got []string
		w := &lineWriter{emit: func(line string) { got = append(got, line) }}
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

func TestEventsComeOneByOneAndInOrder(t *testing.T) {
	var got []string
	q := newEventQueue(func(e Event) { got = append(got, e.Text) }) // the race detector sees two at once
	var want []string
	for range 3 * eventBacklog {
		want = append(want, time.Duration(len(want)).String())
		q.send(Event{Text: want[len(want)-1]})
	}
	q.close()
	if !slices.Equal(got, want) {
		t.Errorf("got %d events, want %d in order", len(got), len(want))
	}
	quiet := newEventQueue(nil)
	quiet.send(Event{})
	quiet.close()
}
