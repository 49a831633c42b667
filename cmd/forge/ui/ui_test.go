package ui

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
)

// events are those of a build for two platforms that pulls its base; each is a second after the one before.
func events() []event.Event {
	base := &event.Step{Number: 1, Kind: event.Base, Name: "FROM alpine", Stage: "stage-0", Index: 1, Count: 2, Platform: "linux/amd64", Digest: "sha256:0123456789abcdef0123"}
	run := &event.Step{Number: 2, Kind: event.Run, Name: "RUN make\x1b[2J", Stage: "stage-0", Index: 2, Count: 2, Platform: "linux/amd64", Needs: []int{1}}
	arm := &event.Step{Number: 3, Kind: event.Copy, Name: "COPY a /", Stage: "b", Index: 1, Count: 1, Platform: "linux/amd64", Target: "linux/arm64"}
	push := &event.Step{Number: 4, Kind: event.Push, Name: "push app"}
	layer := func(s event.State, n int64) event.Event {
		return event.Event{
			Kind: event.Blob, Step: base, Bytes: n, Total: 4_000_000,
			Blob: &event.BlobInfo{Digest: "sha256:0123456789abcdef", MediaType: "x.layer.y", State: s},
		}
	}
	all := []event.Event{
		{Kind: event.Begun, Detail: event.Detail{Begin: &event.BuildInfo{Names: []string{"app:ci"}, Context: "."}}},
		{Kind: event.Planned, Step: push},
		{Kind: event.Planned, Step: base},
		{Kind: event.Planned, Step: run},
		{Kind: event.Planned, Step: arm},
		{Kind: event.Lint, Text: "JSONArgs: use them\x07", Source: event.Source{File: "Dockerfile", Line: 4}},
		{Kind: event.Cached, Step: arm},
		{Kind: event.Started, Step: base},
		layer(event.Waiting, 0), layer(event.Copying, 0), layer(event.Copying, 2_000_000), layer(event.Copied, 4_000_000),
		{Kind: event.Done, Step: base, Duration: 1500 * time.Millisecond},
		{Kind: event.Started, Step: run},
		{Kind: event.Explain, Step: run, Text: "command changed"},
		{Kind: event.Progress, Step: run, Text: "10%"},
		{Kind: event.Log, Step: run, Text: "\x1b[31mcc\x1b[0m a.c\x1b[1A\x1b]0;x\x07"},
		{Kind: event.Warning, Step: run, Text: "careful"},
		{Kind: event.Note, Text: "trying again"},
		{Kind: event.Failed, Step: run, Error: "Dockerfile:4: RUN make: exit code 2", Text: "cc a.c\nno"},
		{Kind: event.Ended, Error: "Dockerfile:4: RUN make: exit code 2", Duration: 9 * time.Second},
	}
	for i := range all {
		all[i].Time, all[i].Build = time.Unix(int64(i), 0).UTC(), "b1"
	}
	return all
}

func TestPlain(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("FORCE_COLOR", "")
	t.Setenv("CLICOLOR_FORCE", "")
	var out bytes.Buffer
	show := New("plain", &out)
	for _, e := range events() {
		show.Event(e)
	}
	show.Close("image x")
	want := `#3 [linux/amd64→linux/arm64 b 1/1] COPY a /
#3 CACHED
#1 [linux/amd64 stage-0 1/2] FROM alpine@sha256:0123456789abcdef0123
#1 layer 0123456789ab: copying 4 MB
#1 layer 0123456789ab: done 4 MB
#1 DONE 1.5s
#2 [linux/amd64 stage-0 2/2] RUN make
#2 why: command changed
#2 3.000 cc a.c
#2 WARNING: careful
trying again
#2 ERROR: Dockerfile:4: RUN make: exit code 2
image x
1 warning found:
 - JSONArgs: use them (line 4)
`
	if got := out.String(); got != want {
		t.Errorf("plain shows\n%s\nwant\n%s", got, want)
	}
}

// What a step says stays together: others wait until it ends, says nothing for a while, or has had its turn. Who comes back says again
// who it is.
func TestPlainTurns(t *testing.T) {
	t.Parallel()
	a := &event.Step{Number: 1, Name: "RUN a", Stage: "a", Index: 1, Count: 1}
	b := &event.Step{Number: 2, Name: "RUN b", Stage: "b", Index: 1, Count: 1}
	for _, test := range []struct {
		name string
		at   string // step, milliseconds, and what happens
		want string
	}{
		{"one ends", "a0+ b10+ a20x b30y a40z a50. b60z b70.", "#1 [a]|x|z|DONE|#2 [b]|y|z|DONE"},
		{"silence", "a0+ b10+ b20y a30x b700z a900w a910. b920.", "#1 [a]|x|#2 [b]|y|z|DONE|#1 [a]|w|DONE"},
		{"turns", "a0+ b10+ a400a b450y a800a a1200a a1600a a2000a a2400a a2800a a3200b b3300. a3400.", "#1 [a]|a|a|a|a|a|a|a|#2 [b]|y|DONE|#1 [a]|b|DONE"},
		{"end of all", "a0+ b10+ a20x b30y", "#1 [a]|x|#2 [b]|y"},
	} {
		var out bytes.Buffer
		show := &plain{w: &out, over: true}
		for _, word := range strings.Fields(test.at) {
			var ms int
			e := event.Event{Step: a, Kind: event.Log}
			if word[0] == 'b' {
				e.Step = b
			}
			if _, err := fmt.Sscanf(word[1:], "%d%s", &ms, &e.Text); err != nil {
				t.Fatal(word, err)
			}
			switch e.Text {
			case "+":
				e.Kind = event.Started
			case ".":
				e.Kind = event.Done
			}
			e.Time = time.UnixMilli(int64(ms))
			show.Event(e)
		}
		show.Close()
		var got []string
		for line := range strings.Lines(out.String()) {
			words := strings.Fields(line)
			switch {
			case strings.HasPrefix(words[1], "["):
				got = append(got, words[0]+" "+words[1]+"]")
			case words[1] == "DONE":
				got = append(got, words[1])
			default:
				got = append(got, words[2])
			}
		}
		if got := strings.Join(got, "|"); got != test.want {
			t.Errorf("%s: plain shows %s, want %s", test.name, got, test.want)
		}
	}
}

func TestPlainSaysLastLinesOnce(t *testing.T) {
	t.Parallel()
	a := &event.Step{Number: 1, Name: "RUN a"}
	var out bytes.Buffer
	show := &plain{w: &out, over: true}
	at := func(second int, e event.Event) {
		e.Step, e.Time = a, time.Unix(int64(second), 0)
		show.Event(e)
	}
	at(0, event.Event{Kind: event.Started})
	at(0, event.Event{Kind: event.Log, Text: "first"})
	show.Event(event.Event{Kind: event.Started, Step: &event.Step{Number: 2, Name: "RUN b"}, Time: time.Unix(9, 0)})
	at(10, event.Event{Kind: event.Log, Text: "last"})
	at(10, event.Event{Kind: event.Failed, Error: "broken", Text: "first\nlast"})
	show.Close()
	want := "#1 RUN a\n#1 0.000 first\n#2 RUN b\n#1 RUN a\n#1 10.000 last\n#1 ERROR: broken\n------\n > RUN a:\nfirst\nlast\n------\n"
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
	if got, want := out.String(), "------\n > [linux/amd64 stage-0 2/2] RUN make:\ncc a.c\nno\n------\n"; got != want {
		t.Errorf("quiet shows %q, want %q", got, want)
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	frames := map[event.Kind][]string{ // after the last event of the kind: what stays, "--", and what is under way
		event.Begun:   {"--", "forge build app:ci · 1.0s"},
		event.Planned: {"--", "forge build app:ci · 0/4 · 5.0s"},
		event.Cached:  {"--", "forge build app:ci · 1/4 · 1 cached · 7.0s", " => [linux/amd64→linux/arm64 b 1/1] COPY a /          CACHED"},
		event.Progress: {
			"why [linux/amd64 stage-0 2/2] RUN make: command changed", "--", "forge build app:ci · 2/4 · 1 cached · 16.0s",
			" => [linux/amd64 stage-0 2/2] RUN make                  3.0s", "    | 10%",
			" => [linux/amd64 stage-0 1/2] FROM alpine@sha256:… 4 MB 1.5s", " => [linux/amd64→linux/arm64 b 1/1] COPY a /          CACHED",
		},
		event.Ended: {
			"WARNING [linux/amd64 stage-0 2/2] RUN make: careful", "trying again", "--", "forge build app:ci · 3/4 · 1 cached · 9.0s · failed",
			" => [linux/amd64 stage-0 1/2] FROM alpine@sha256:… 4 MB 1.5s", " => [linux/amd64 stage-0 2/2] RUN make                 ERROR",
			" => [linux/amd64→linux/arm64 b 1/1] COPY a /          CACHED",
		},
	}
	var v view
	all := events()
	for i, e := range all {
		v.event(e)
		want, ok := frames[e.Kind]
		if !ok || i+1 < len(all) && all[i+1].Kind == e.Kind {
			continue
		}
		if above, bottom := v.frame(e.Time.Add(time.Second), 61, 24); !slices.Equal(slices.Concat(above, []string{"--"}, bottom), want) {
			t.Errorf("after %s the terminal shows\n%s\nwant\n%s", e.Kind, strings.Join(slices.Concat(above, []string{"--"}, bottom), "\n"), strings.Join(want, "\n"))
		}
	}
	v.last(all[len(all)-1].Time, 80, []string{"built app:ci 62 MB in 1s (9 cached, 3 run) sha256:" + strings.Repeat("a", 64), "pushed reg/app@sha256:" + strings.Repeat("b", 64)})
	above, bottom := v.frame(time.Time{}, 61, 24)
	want := []string{
		" => [linux/amd64 stage-0 1/2] FROM alpine@sha256:… 4 MB 1.5s", " => [linux/amd64 stage-0 2/2] RUN make                 ERROR",
		" => [linux/amd64→linux/arm64 b 1/1] COPY a /          CACHED", "------", " > [linux/amd64 stage-0 2/2] RUN make:", "cc a.c", "no", "------",
		"built app:ci 62 MB in 1s (9 cached, 3 run) sha256:aaaaaaaaaaaa", "pushed reg/app@sha256:" + strings.Repeat("b", 64),
	}
	if !slices.Equal(above, want) || len(bottom) > 0 {
		t.Errorf("at the end the terminal shows\n%s\nwant\n%s", strings.Join(above, "\n"), strings.Join(want, "\n"))
	}
}

// What was under way when the end came was cancelled, and that is what is left to see.
func TestViewOfWhatWasCanceled(t *testing.T) {
	t.Parallel()
	var v view
	v.event(event.Event{Kind: event.Begun, Time: time.Unix(0, 0), Detail: event.Detail{Begin: &event.BuildInfo{Context: "."}}})
	for i, kind := range []event.Kind{event.Started, event.Canceled} {
		v.event(event.Event{Kind: event.Started, Time: time.Unix(1, 0), Step: &event.Step{Number: i + 1, Name: "RUN x"}})
		v.event(event.Event{Kind: kind, Time: time.Unix(1, 0), Step: &event.Step{Number: i + 1, Name: "RUN x"}, Duration: 2 * time.Second})
	}
	v.last(time.Unix(4, 0), 80, nil)
	above, _ := v.frame(time.Unix(4, 0), 41, 24)
	want := []string{"forge build . · 1/2 · 4.0s · canceled", " => RUN x                  CANCELED 3.0s", " => RUN x                  CANCELED 2.0s"}
	if !slices.Equal(above, want) {
		t.Errorf("the terminal shows\n%s\nwant\n%s", strings.Join(above, "\n"), strings.Join(want, "\n"))
	}
}

func TestTransfersInView(t *testing.T) {
	t.Parallel()
	var v view
	for i, is := range []event.State{event.Exists, event.Copying, event.Copying, event.Copied, event.Waiting} {
		for at, n := range []int64{0, 1_000_000} {
			v.event(event.Event{
				Kind: event.Blob, Time: time.Unix(int64(at), 0), Bytes: n, Total: 4_000_000,
				Blob: &event.BlobInfo{Digest: fmt.Sprintf("sha256:%012d", i), MediaType: "layer", State: is},
			})
		}
	}
	for height, want := range map[int][]string{
		24: {
			"000000000000: Already exists", "000000000001: Copying [====>              ] 1 MB/4 MB 500 kB/s 6s left",
			"000000000002: Copying [====>              ] 1 MB/4 MB 500 kB/s 6s left", "000000000003: Done", "000000000004: Waiting",
			"1/4 layers [============>                ] 7 MB/16 MB 3.5 MB/s 3s left",
		},
		4: {"000000000001: Copying [====>              ] 1 MB/4 MB 500 kB/s 6s left", "+4 more", "1/4 layers [============>                ] 7 MB/16 MB 3.5 MB/s 3s left"},
	} {
		if _, got := v.frame(time.Unix(2, 0), 71, height); !slices.Equal(got, want) {
			t.Errorf("%d rows show\n%s\nwant\n%s", height, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestCompressedInView: a layer that is compressed while it is sent has a bar of how much of its tar has been read.
func TestCompressedInView(t *testing.T) {
	t.Parallel()
	var v view
	for at, n := range []int64{0, 1_000_000} {
		v.event(event.Event{
			Kind: event.Blob, Time: time.Unix(int64(at), 0), Bytes: n, Total: -1,
			Blob: &event.BlobInfo{Digest: "sha256:000000000001", MediaType: "layer", State: event.Copying, Read: 3 * n, Length: 4_000_000},
		})
	}
	want := []string{"000000000001: Copying [==================>     ] 1 MB 500 kB/s 1s left"}
	if _, got := v.frame(time.Unix(2, 0), 71, 24); !slices.Equal(got, want) {
		t.Errorf("shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestColors(t *testing.T) {
	for _, test := range []struct {
		env  string
		want bool
	}{
		{"", false}, {"FORCE_COLOR=1", true}, {"CLICOLOR_FORCE=1", true}, {"FORCE_COLOR=1 NO_COLOR=1", false}, {"FORCE_COLOR=0", false}, {"TERM=dumb CLICOLOR_FORCE=1", true},
	} {
		for _, name := range []string{"NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR"} {
			t.Setenv(name, "")
		}
		for _, set := range strings.Fields(test.env) {
			name, value, _ := strings.Cut(set, "=")
			t.Setenv(name, value)
		}
		var out bytes.Buffer
		show := New("plain", &out)
		for _, e := range events() {
			show.Event(e)
		}
		show.Close()
		if got := strings.Contains(out.String(), "\x1b[34mCACHED\x1b[0m") && strings.Contains(out.String(), "\x1b[31mcc\x1b[0m a.c\x1b[0m\n"); got != test.want {
			t.Errorf("with %s there are colours: %v, want %v", test.env, got, test.want)
		}
		if strings.Contains(out.String(), "\x1b[1A") || strings.Contains(out.String(), "\x1b]") {
			t.Errorf("with %s a command steers the terminal: %q", test.env, out.String())
		}
	}
}

// TestManyBlobs holds that what a transfer of very many blobs shows takes time by their number, and not by its square.
func TestManyBlobs(t *testing.T) {
	const n = 100_000
	var s state
	began := time.Now()
	for _, is := range []event.State{event.Waiting, event.Copying, event.Copied} {
		for i := range n {
			s.apply(event.Event{Kind: event.Blob, Blob: &event.BlobInfo{Digest: fmt.Sprintf("sha256:%064d", i), MediaType: "layer", State: is}})
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := transferOf(s.blobs.all); got.blobs != n || got.ended != n {
		t.Errorf("%d blobs, %d ended; want %d", got.blobs, got.ended, n)
	}
}
