package ui

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
)

// events are those of a build for two platforms that pulls its base; each is a second after the one before.
func events() []event.Event {
	base := &event.Step{Number: 1, Name: "FROM alpine", Stage: "stage-0", Index: 1, Count: 2, Platform: "linux/amd64"}
	run := &event.Step{Number: 2, Name: "RUN make\x1b[2J", Stage: "stage-0", Index: 2, Count: 2, Platform: "linux/amd64"}
	arm := &event.Step{Number: 3, Name: "COPY a /", Stage: "b", Index: 1, Count: 1, Platform: "linux/amd64", Target: "linux/arm64"}
	layer := func(s event.State, n int64) event.Event {
		return event.Event{
			Kind: event.Blob, Step: base, Bytes: n, Total: 4_000_000,
			Blob: &event.BlobInfo{Digest: "sha256:0123456789abcdef", MediaType: "x.layer.y", State: s},
		}
	}
	all := []event.Event{
		{Kind: event.Planned, Step: base},
		{Kind: event.Planned, Step: run},
		{Kind: event.Planned, Step: arm},
		{Kind: event.Lint, Text: "JSONArgs: use them\x07", Source: event.Source{File: "Dockerfile", Line: 4}},
		{Kind: event.Cached, Step: arm},
		{Kind: event.Started, Step: run},
		{Kind: event.Started, Step: base},
		layer(event.Waiting, 0), layer(event.Copying, 0), layer(event.Copying, 2_000_000), layer(event.Copied, 4_000_000),
		{Kind: event.Done, Step: base, Duration: 1500 * time.Millisecond},
		{Kind: event.Explain, Step: run, Text: "command changed"},
		{Kind: event.Log, Step: run, Text: "cc a.c"},
		{Kind: event.Warning, Step: run, Text: "careful"},
		{Kind: event.Note, Text: "trying again"},
		{Kind: event.Failed, Step: run, Error: "Dockerfile:4: RUN make: exit code 2", Text: "cc a.c\nno"},
		{Kind: event.Started},
	}
	for i := range all {
		all[i].Time = time.Unix(int64(i), 0)
	}
	return all
}

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	show := New("plain", &out)
	for _, e := range events() {
		show.Event(e)
	}
	show.Close("image x")
	want := `#3 [linux/amd64→linux/arm64 b 1/1] COPY a /
#3 CACHED
#2 [linux/amd64 stage-0 2/2] RUN make[2J
#1 [linux/amd64 stage-0 1/2] FROM alpine
#1 layer 0123456789ab: copying 4MB
#1 layer 0123456789ab: done 4MB
#1 DONE 1.5s
#2 why: command changed
#2 8.000 cc a.c
#2 WARNING: careful
trying again
#2 ERROR: Dockerfile:4: RUN make: exit code 2
------
 > [linux/amd64 stage-0 2/2] RUN make[2J:
cc a.c
no
------
image x
1 warning found:
 - JSONArgs: use them (line 4)
`
	if got := out.String(); got != want {
		t.Errorf("plain shows\n%s\nwant\n%s", got, want)
	}
}

func TestTransferInPlainLines(t *testing.T) {
	var out bytes.Buffer
	show := New("plain", &out)
	for _, e := range events() {
		if e.Step = nil; e.Kind == event.Blob || e.Kind == event.Note {
			show.Event(e)
		}
	}
	show.Event(event.Event{Kind: event.Blob, Blob: &event.BlobInfo{Digest: "sha256:abcdefabcdefabcd", MediaType: "manifest", State: event.Exists}})
	show.Close()
	if got, want := out.String(), "0123456789ab: Copying\n0123456789ab: Done\ntrying again\nabcdefabcdef: Already exists\n"; got != want {
		t.Errorf("plain shows %q, want %q", got, want)
	}
}

func TestQuiet(t *testing.T) {
	var out bytes.Buffer
	show := New("quiet", &out)
	for _, e := range events() {
		show.Event(e)
	}
	show.Close("image x")
	if got, want := out.String(), "------\n > [linux/amd64 stage-0 2/2] RUN make[2J:\ncc a.c\nno\n------\n"; got != want {
		t.Errorf("quiet shows %q, want %q", got, want)
	}
}

func TestView(t *testing.T) {
	frames := map[int][]string{ // after so many events: what stays, "--", and what is under way
		5: {" => [linux/amd64→linux/arm64 b 1/1] COPY a /          CACHED", "--"},
		10: {
			"--", " => [linux/amd64 stage-0 2/2] RUN make[2J               5.0s", " => [linux/amd64 stage-0 1/2] FROM alpine               4.0s",
			" => => 0123456789ab: Copying          [=====     ] 2MB/4MB …",
		},
		12: {" => [linux/amd64 stage-0 1/2] FROM alpine               1.5s", "--", " => [linux/amd64 stage-0 2/2] RUN make[2J               7.0s"},
		14: {
			"    why [linux/amd64 stage-0 2/2] RUN make[2J: command chan…", "--", " => [linux/amd64 stage-0 2/2] RUN make[2J               9.0s",
			"\x1b[2m => => # cc a.c\x1b[0m",
		},
		17: {
			" => WARNING [linux/amd64 stage-0 2/2] RUN make[2J: careful", "trying again", " => [linux/amd64 stage-0 2/2] RUN make[2J              ERROR",
			"------", " > [linux/amd64 stage-0 2/2] RUN make[2J:", "cc a.c", "no", "------", "--",
		},
		18: {"--"},
	}
	var v view
	for i, e := range events() {
		v.event(e)
		want, ok := frames[i+1]
		if !ok {
			continue
		}
		above, bottom := v.frame(e.Time.Add(time.Second), 61, 24)
		if got := slices.Concat(above, []string{"--"}, bottom); !slices.Equal(got, want) {
			t.Errorf("after %d events the terminal shows\n%s\nwant\n%s", i+1, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
