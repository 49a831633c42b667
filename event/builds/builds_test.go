package builds_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/builds"
)

// build keeps the events of a build that prints so many lines, and closes the file unless it is to look as if it ran.
func build(t *testing.T, s builds.Store, n int, lines int, end *event.Event) *builds.Writer {
	t.Helper()
	w, at := s.Begin(), time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC)
	step := &event.Step{Number: 1, Name: "RUN make"}
	id := fmt.Sprintf("b%02d", n)
	all := []event.Event{{Kind: event.Begun, Detail: event.Detail{Begin: &event.BuildInfo{Context: ".", Names: []string{"app"}}}}, {Kind: event.Planned, Step: step}, {Kind: event.Started, Step: step}}
	for i := range lines {
		all = append(all, event.Event{Kind: event.Progress, Step: step, Text: "10%"}, event.Event{Kind: event.Log, Step: step, Text: fmt.Sprint("line ", i, strings.Repeat(" ", 32<<10))})
	}
	if end != nil {
		all = append(all, event.Event{Kind: event.Done, Step: step}, *end)
	}
	for i, e := range all {
		e.Build, e.Time = id, at.Add(time.Duration(i)*time.Millisecond)
		w.Event(e)
	}
	if end != nil {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func ids(t *testing.T, s builds.Store) string {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, r := range all {
		words = append(words, r.ID+" "+string(r.State))
	}
	return strings.Join(words, ", ")
}

func TestBuilds(t *testing.T) {
	t.Parallel()
	s := builds.Open(filepath.Join(t.TempDir(), "builds"))
	if got := ids(t, s); got != "" {
		t.Errorf("an empty store has %s", got)
	}
	if _, err := s.Find(""); !errors.Is(err, builds.ErrNotKept) {
		t.Errorf("the last of no builds: %v", err)
	}
	build(t, s, 1, 3, &event.Event{Kind: event.Ended, Duration: time.Second, Text: "sha256:1"})
	build(t, s, 2, 0, &event.Event{Kind: event.Ended, Error: strings.Repeat("broken ", 20_000)})
	running := build(t, s, 3, 10, nil)
	if got, want := ids(t, s), "b03 running, b02 error, b01 completed"; got != want {
		t.Errorf("the store has %s, want %s", got, want)
	}
	if _, err := s.Remove("b03"); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("removing a build that runs: %v", err)
	}
	if err := running.Close(); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"": "b03", "^1": "b02", "b01": "b01"} {
		if r, err := s.Find(ref); err != nil || r.ID != want {
			t.Errorf("%q is %s, %v; want %s", ref, r.ID, err, want)
		}
	}
	for ref, want := range map[string]string{"b": "3 builds begin so", "^9": "no such build", "zz": "no such build", "^x": "followed by"} {
		if _, err := s.Find(ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", ref, err, want)
		}
	}
	first, err := s.Find("b01")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for e, err := range first.Events() {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, string(e.Kind))
	}
	if got, want := strings.Join(kinds, " "), "begun planned started log log log done ended"; got != want {
		t.Errorf("it kept %s, want %s", got, want)
	}
	if first.Begin.Names[0] != "app" || first.End.Totals.Done != 1 || first.Duration(time.Time{}) != time.Second {
		t.Errorf("the record is %+v", first)
	}
	if removed, err := s.Remove("b01", "b02"); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if got, want := ids(t, s), "b03 killed"; got != want {
		t.Errorf("the store has %s, want %s", got, want)
	}
}

// Neither many builds nor a build that prints without end fill the disk.
func TestBuildsAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := builds.Open(dir)
	end := &event.Event{Kind: event.Ended}
	for n := range builds.MaxBuilds + 3 {
		build(t, s, n, 0, end)
	}
	if got := ids(t, s); strings.Count(got, ",") != builds.MaxBuilds-1 || strings.Contains(got, "b02") || !strings.Contains(got, "b22") {
		t.Errorf("the store has %s", got)
	}
	for n := 30; n < 34; n++ {
		build(t, s, n, 1200, end) // 37 MB
	}
	var total int64
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
		if info.Size() > 33<<20 {
			t.Errorf("%s has %d bytes", f.Name(), info.Size())
		}
	}
	if total > 97<<20 { // the bound, and what the last one has written since
		t.Errorf("the store has %d bytes", total)
	}
	last, err := s.Find("")
	if err != nil || last.State != builds.Completed {
		t.Fatalf("the last build is %+v, %v", last, err)
	}
	told := false
	for e, err := range last.Events() {
		told = told || err == nil && e.Kind == event.Note && strings.Contains(e.Text, "is not kept")
	}
	if !told {
		t.Error("nothing says that the log is cut")
	}
}

// The name of a step, which may be a long command, is kept once and not with each line that it prints, however long it is.
func TestBuildsOfLongCommands(t *testing.T) {
	t.Parallel()
	s := builds.Open(t.TempDir())
	for length, lines := range map[int]int{18 << 10: 1000, 3 << 20: 20} {
		w := s.Begin()
		step := &event.Step{Number: 2, Kind: event.Run, Name: "RUN " + strings.Repeat("<", length), Stage: "stage-0", Needs: []int{1}}
		later := &event.Step{Number: 2, Kind: event.Run, Name: step.Name, Stage: "stage-0", Digest: "sha256:00"}
		sent := []event.Event{{Kind: event.Begun, Detail: event.Detail{Begin: &event.BuildInfo{Context: "."}}}, {Kind: event.Planned, Step: step}, {Kind: event.Note, Text: "x"}}
		for i := range lines {
			sent = append(sent, event.Event{Kind: event.Log, Step: step, Text: fmt.Sprint(i)})
		}
		sent = append(sent, event.Event{Kind: event.Done, Step: later}, event.Event{Kind: event.Warning, Step: later, Text: "x"})
		for i := range sent {
			sent[i].Build, sent[i].Time = fmt.Sprint("b", length), time.Unix(int64(i), 0).UTC()
			w.Event(sent[i])
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := s.Find(fmt.Sprint("b", length))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for e, err := range r.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if n == len(sent) || !reflect.DeepEqual(e, sent[n]) {
				t.Fatalf("event %d of a step of %d bytes is another: %s of %v", n, length, e.Kind, e.Step != nil)
			}
			n++
		}
		if n != len(sent) {
			t.Errorf("%d events of %d are kept", n, len(sent))
		}
	}
}

// What a killed process or a stranger left in the directory is no reason to fail.
func TestBuildsTorn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := builds.Open(dir)
	build(t, s, 1, 1, &event.Event{Kind: event.Ended})
	all, err := s.List()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	for name, text := range map[string]string{
		"20270101T000000.000000-torn.jsonl":  `{"event":"begun","begin":{"context":"."}}` + "\n" + `{"event":"lo`,
		"20270101T000001.000000-empty.jsonl": "",
		"20270101T000002.000000-other.jsonl": "no JSON\n",
		"note.txt":                           "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := ids(t, s), "other killed, empty killed, torn killed, b01 completed"; got != want {
		t.Errorf("the store has %s, want %s", got, want)
	}
	for id, want := range map[string]string{"torn": "1 <nil>", "empty": "0 <nil>", "other": "0 error"} {
		r, err := s.Find(id)
		if err != nil {
			t.Fatal(err)
		}
		n, failed := 0, "<nil>"
		for _, err := range r.Events() {
			if err != nil {
				failed = "error"
				break
			}
			n++
		}
		if got := fmt.Sprint(n, " ", failed); got != want {
			t.Errorf("%s has %s events, want %s", id, got, want)
		}
	}
}
