package ui

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
)

// report is what a build of six steps leaves: two branches, of which the one with the longest step is not the longest.
func report(t *testing.T) *Report {
	t.Helper()
	r := &Report{Display: New("quiet", io.Discard)}
	send := func(kind event.Kind, n int, took time.Duration, needs ...int) {
		r.Event(event.Event{
			Kind: kind, Duration: took, Source: event.Source{File: "a,b:c", Line: 10 * n, End: 10*n + 1},
			Step: &event.Step{Number: n, Kind: event.Run, Name: "RUN a | b `c`\n", Needs: needs},
		})
	}
	r.Event(event.Event{Kind: event.Begun, Detail: event.Detail{Begin: &event.BuildInfo{Names: []string{"app_1"}}}})
	for n, needs := range [][]int{1: nil, 2: {1}, 3: {1}, 4: {3}, 5: {2, 4}, 6: {5}} {
		if n > 0 {
			send(event.Planned, n, 0, needs...)
		}
	}
	send(event.Cached, 1, 9*time.Second)
	send(event.Done, 2, 4*time.Second)
	send(event.Done, 3, 3*time.Second)
	send(event.Done, 4, 2*time.Second)
	send(event.Done, 5, time.Second)
	r.Event(event.Event{Kind: event.Lint, Text: "Rule: says\x1b[31m that", Source: event.Source{File: "Dockerfile", Line: 3}})
	r.Event(event.Event{
		Kind: event.Failed, Step: &event.Step{Number: 6, Name: "RUN a"}, Duration: time.Second, Error: "exit code 1", Text: "50%\n::error::not a command",
	})
	return r
}

func TestReportSummary(t *testing.T) {
	t.Parallel()
	r := report(t)
	r.Close()
	r.Fail(errors.New("it ```broke```"))
	var b strings.Builder
	if err := r.Summary(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### Build of app\\_1 failed\n",
		"````text\nit ```broke```\n````\n",
		"6 steps, 1 cached, 4 done, 1 failed, ",
		"Critical path: 7.0s in steps #3 → #4 → #5 → #6\n",
		"| #1 | `RUN a \\| b 'c'` | cached |  |\n",
		"| #6 | `RUN a \\| b 'c'` | **failed** | 1.0s |\n",
		"\n- Rule: says",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("a control character in %q", b.String())
	}
}

func TestReportGitHub(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := report(t).GitHub(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "::warning title=Rule,file=Dockerfile,line=3::says") || strings.Contains(lines[0], "\x1b") {
		t.Errorf("got %q", lines)
	}
	if want := "::error title=RUN a,file=a%2Cb%3Ac,line=60,endLine=61::exit code 1%0A50%25%0A::error::not a command"; lines[1] != want {
		t.Errorf("got  %s\nwant %s", lines[1], want)
	}
}
