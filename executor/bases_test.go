package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// fakeBases are images elsewhere, unless here says otherwise. They note when they are fetched.
type fakeBases struct {
	here bool
	err  error
	note func(string)
}

func (f *fakeBases) Here(*image.Image) bool { return f.here }

func (f *fakeBases) FetchLayers(context.Context, []image.Layer) error {
	f.note("fetch")
	return f.err
}

// The image of a FROM is brought before the step that waits for it begins, and is to blame if it cannot be brought.
func TestBuildFetchesBases(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		bases fakeBases
		link  bool // a COPY --link, which needs nothing of what lies below it
		want  []string
	}{
		{"here", fakeBases{here: true}, false, []string{"planned 1", "planned 2", "cached 1", "fetch", "started 2", "done 2"}},
		{"elsewhere", fakeBases{}, false, []string{"planned 1", "planned 2", "fetch", "started 2", "done 2"}},
		{"not needed", fakeBases{}, true, []string{"planned 1", "planned 2", "started 2", "done 2"}},
		{"gone", fakeBases{err: errors.New("gone")}, false, []string{"planned 1", "planned 2", "fetch", "Dockerfile:1: RUN base: gone"}},
	} {
		var mu sync.Mutex
		var got []string
		note := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, what)
		}
		test.bases.note = note
		o := testOptions(t, &fakeWorker{})
		o.Bases = &test.bases
		o.Events = func(e event.Event) { note(fmt.Sprint(e.Kind, " ", e.Step.Number)) }
		var g graphMaker
		base := g.run("base", nil)
		base.Op = &planner.Base{Image: &image.Image{}}
		last := g.run("a", base)
		if test.link {
			last.Op = &planner.Copy{Link: true}
		}
		_, err := buildOne(t.Context(), g.graph(last), o)
		if err != nil {
			note(err.Error())
			if failure, ok := errors.AsType[*StepError](err); !ok || failure.Step != base {
				t.Errorf("%s: %v is to blame", test.name, err)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Each step that has begun ends in one way: that which failed with what is known of its command, the others as cancelled.
func TestBuildReportsHowStepsEnd(t *testing.T) {
	t.Parallel()
	slowly := make(chan struct{})
	w := &fakeWorker{do: func(ctx context.Context, job Job, log io.Writer) (string, error) {
		switch command0(job.Op) {
		case "bad":
			<-slowly
			fmt.Fprint(log, "last words")
			return "", &ExitError{Code: 3}
		case "slow":
			close(slowly)
			<-ctx.Done()
			return "", ctx.Err()
		}
		return command0(job.Op), nil
	}}
	o := testOptions(t, w)
	ends := map[string]event.Event{}
	o.Events = func(e event.Event) {
		switch e.Kind {
		case event.Done, event.Failed, event.Canceled:
			if other, twice := ends[e.Step.Name]; twice {
				t.Errorf("%s ends as %s and %s", e.Step.Name, other.Kind, e.Kind)
			}
			ends[e.Step.Name] = e
		}
	}
	var g graphMaker
	slow, bad := g.run("slow", nil), g.run("bad", g.run("good", nil))
	if _, err := buildOne(t.Context(), g.graph(g.run("never", nil, slow, bad)), o); err == nil {
		t.Fatal("the build succeeded")
	}
	failed := ends["RUN bad"]
	if ends["RUN slow"].Kind != event.Canceled || ends["RUN good"].Kind != event.Done || failed.Kind != event.Failed || len(ends) != 3 {
		t.Errorf("steps end as %v", ends)
	}
	if failed.Text != "last words" || failed.Failure == nil || failed.Failure.ExitCode != 3 {
		t.Errorf("the failure is %+v", failed)
	}
}
