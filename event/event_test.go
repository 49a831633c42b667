package event_test

import (
	"encoding/json"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
)

func TestEventIsData(t *testing.T) {
	t.Parallel()
	e := event.Event{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Build: "b1", Kind: event.Blob,
		Step:   &event.Step{Number: 3, Name: "FROM alpine", Stage: "base", Index: 1, Count: 2, Platform: "linux/arm64"},
		Blob:   &event.BlobInfo{Digest: "sha256:1", MediaType: "layer", State: event.Copying},
		Source: event.Source{File: "Dockerfile", Line: 7, End: 9}, Text: "a\nb", Bytes: 5, Total: -1, Duration: time.Second, Error: "x",
		Detail: event.Detail{
			Why: &event.Why{Reason: event.Changed, Changes: []event.Change{{Field: "env", Name: "A", How: event.Added, New: "1"}}},
			Key: "00", Usage: &event.Usage{CPU: time.Second, Memory: 4096}, Failure: &event.Failure{ExitCode: 7, Excerpt: "1 | >>> FROM"}, Begin: &event.BuildInfo{Names: []string{"app:1"}, Context: "."},
		},
	}
	for i := range reflect.TypeFor[event.Event]().NumField() {
		if f := reflect.TypeFor[event.Event]().Field(i); reflect.ValueOf(e).Field(i).IsZero() {
			t.Errorf("the test sets no %s", f.Name)
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var got event.Event
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("%s came back as %+v, %v", text, got, err)
	}
	if text, err = json.Marshal(event.Event{Kind: event.Note}); err != nil || string(text) != `{"event":"note"}` {
		t.Errorf("an event without more is %s, %v", text, err)
	}
}

// fill sets every field of a value, and of what it holds.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Slice:
		if raw, ok := v.Addr().Interface().(*json.RawMessage); ok {
			*raw, _ = json.Marshal(map[string]string{"uri": text})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), text)
		fill(v.Index(1), text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	}
}

// AppendJSON knows every field that an event has, and writes it as json.Marshal does.
func TestAppendJSON(t *testing.T) {
	t.Parallel()
	events := []event.Event{{}, {Step: &event.Step{}, Blob: &event.BlobInfo{}, Detail: event.Detail{Begin: &event.BuildInfo{}, Totals: &event.Totals{}}}}
	for _, text := range []string{"plain", "\x1b[31m \"quoted\" back\\slash\n", "<a&b>", "漢字 🎉 \u2028", "bad \xff"} {
		var e event.Event
		fill(reflect.ValueOf(&e).Elem(), text)
		events = append(events, e)
	}
	for _, e := range events {
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := event.AppendJSON([]byte("before "), e); err != nil || string(got) != "before "+string(want) {
			t.Errorf("an event is written as\n%s\n%v, want\n%s", got, err, want)
		}
	}
	if _, err := event.AppendJSON(nil, event.Event{Time: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a time that has no form is no error")
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	var got []event.Event // no lock: the queue calls the sink once at a time
	q := event.NewQueue("b", func(e event.Event) { got = append(got, e) })
	var senders sync.WaitGroup
	for n := range 10 {
		senders.Go(func() {
			for i := range 500 {
				q.Sink().Send(event.Event{Kind: event.Log, Bytes: int64(n), Total: int64(i)})
			}
		})
	}
	senders.Wait()
	q.Close()
	q.Send(event.Event{Kind: event.Note}) // somebody may be late
	q.Close()
	next := map[int64]int64{}
	for _, e := range got {
		if e.Total != next[e.Bytes] || e.Build != "b" || e.Time.IsZero() {
			t.Fatalf("event %+v, want %d of %d", e, next[e.Bytes], e.Bytes)
		}
		next[e.Bytes]++
	}
	if len(got) != 5000 {
		t.Errorf("%d events came, want 5000", len(got))
	}

	q = event.NewQueue("b", nil)
	q.Send(event.Event{Kind: event.Note})
	q.Close()
	if q.Sink() != nil {
		t.Error("a queue without a reader asks for events")
	}
}

func TestStamped(t *testing.T) {
	t.Parallel()
	var got []event.Event // no lock: the sink is called once at a time
	sink := event.Stamped("run", func(e event.Event) { got = append(got, e) })
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for range 100 {
				sink.Send(event.Event{Kind: event.Note, Build: "pull"})
			}
		})
	}
	senders.Wait()
	if len(got) != 400 || got[0].Build != "run" || got[0].Time.IsZero() {
		t.Errorf("%d events came, the first %+v", len(got), got[0])
	}
	if event.Stamped("run", nil) != nil {
		t.Error("a stamped sink without a reader asks for events")
	}
}
