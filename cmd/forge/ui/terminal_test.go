package ui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
)

// busy are the events of a build with so many stages that all work at once, four steps in each, and log lines of all kinds.
func busy(stages int) []event.Event {
	var all []event.Event
	names := []string{"RUN make", "RUN 编译所有的东西并且安装到很远很远的地方去因为名字很长很长很长很长很长", "RUN echo 🎉🎉🎉 e\u0301te\u0301 \x1b[2J\x1b[31mred", "COPY . /src"}
	logs := []string{
		"cc -c a.c", "\x1b[32mok\x1b[0m " + strings.Repeat("very long ", 40), "构建完成 " + strings.Repeat("漢字", 90), "👩‍👩‍👧 family ❤️",
		"\x1b]0;title\x07\x1b[5A\x1b[?25lhidden?", "tab\there", "10%\b\b\b20%",
	}
	at := func(e event.Event) {
		e.Time, e.Build = time.Unix(int64(len(all)), 0), "b1"
		all = append(all, e)
	}
	steps := make([][]*event.Step, stages)
	number := 0
	at(event.Event{Kind: event.Begun, Detail: event.Detail{Begin: &event.BuildInfo{Names: []string{"例え/app:ci"}}}})
	for s := range stages {
		for i, name := range names {
			number++
			steps[s] = append(steps[s], &event.Step{Number: number, Name: name, Stage: fmt.Sprintf("阶段-%d", s), Index: i + 1, Count: len(names)})
			at(event.Event{Kind: event.Planned, Step: steps[s][i]})
		}
	}
	for i := range names {
		for s := range stages {
			at(event.Event{Kind: event.Started, Step: steps[s][i]})
		}
		for n, text := range logs {
			for s := range stages {
				at(event.Event{Kind: event.Log, Step: steps[s][i], Text: text})
				at(event.Event{Kind: event.Progress, Step: steps[s][i], Text: fmt.Sprint(n, "%")})
			}
			at(event.Event{Kind: event.Warning, Step: steps[0][i], Text: "careful " + strings.Repeat("注意", 50)})
		}
		for s := range stages {
			at(event.Event{Kind: event.Blob, Step: steps[s][i], Bytes: 5_000_000, Total: 9_000_000, Blob: &event.BlobInfo{Digest: "sha256:ab", MediaType: "layer", State: event.Copying}})
			at(event.Event{Kind: event.Done, Step: steps[s][i], Duration: time.Second})
		}
	}
	return all
}

// A screen shows what the view says and nothing else, whatever its size, whatever is in the names and logs, and while its size changes:
// no row of an earlier frame is left, and no line is broken in two.
func TestScreen(t *testing.T) {
	type dimensions struct{ width, height int }
	for _, test := range []struct {
		name   string
		stages int
		sizes  []dimensions // that follow each other, some frames each
	}{
		{"80x24 with 4 stages", 4, []dimensions{{80, 24}}},
		{"80x10 with 8 stages", 8, []dimensions{{80, 10}}},
		{"120x40", 8, []dimensions{{120, 40}}},
		{"200x50", 4, []dimensions{{200, 50}}},
		{"as small as can be", 4, []dimensions{{20, 3}}},
		{"no room", 2, []dimensions{{2, 2}}},
		{"narrower and wider", 4, []dimensions{{120, 40}, {63, 40}, {41, 40}, {99, 40}, {37, 40}, {200, 40}}},
		{"lower and higher", 8, []dimensions{{80, 40}, {80, 12}, {80, 30}, {60, 10}, {80, 24}}},
		{"odd", 4, []dimensions{{80, 24}, {39, 24}, {38, 24}, {37, 24}}},
	} {
		for _, colors := range []palette{{}, {on: true}} {
			v := view{state: state{palette: colors}}
			var s screen
			var said []string // what stays above
			now := test.sizes[0]
			g, before := newGrid(t, now.width, now.height), 0
			for i, e := range busy(test.stages) {
				lost := false
				v.event(e)
				if next := test.sizes[i/9%len(test.sizes)]; next != now {
					now = next
					g.resize(now.width, now.height)
					lost = s.rows(now.width) >= now.height // broken lines have left the screen: nobody can change them
					if lost && g.top() > 0 {
						g.rows[g.top()-1].broken = false
					}
				}
				above, bottom := v.frame(e.Time, now.width, now.height)
				g.write(s.paint(above, bottom, now.width))
				if len(bottom) > now.height-1 {
					t.Fatalf("%s: after %d events there are %d lines:\n%s", test.name, i+1, len(bottom), strings.Join(bottom, "\n"))
				}
				said = append(said, shown(above)...)
				if lost {
					before, said = len(g.text())-len(bottom), nil
				}
				want := slices.Concat(said, shown(bottom))
				if got := g.text()[before:]; !slices.Equal(got, want) {
					n := 0
					for n < min(len(got), len(want)) && got[n] == want[n] {
						n++
					}
					t.Fatalf("%s: after %d events (%s) the terminal shows from line %d on\n%s\nwant\n%s", test.name, i+1, e.Kind, n,
						strings.Join(got[n:], "\n"), strings.Join(want[n:], "\n"))
				}
			}
		}
	}
}

// shown are lines as a terminal shows them.
func shown(lines []string) []string {
	var plain []string
	for _, line := range lines {
		line = clean(line, dropColor)
		plain = append(plain, strings.TrimRight(strings.Map(func(r rune) rune {
			if gridCells(r) == 0 {
				return -1
			}
			return r
		}, line), " "))
	}
	return plain
}
