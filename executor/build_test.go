package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A fakeWorker makes layers out of nothing but the commands' names.
type fakeWorker struct {
	do      func(ctx context.Context, job Job, log io.Writer) (string, error) // content of the layer; nil: the command
	inputs  map[string]string                                                 // command → what it depends on besides
	missing map[string]error                                                  // command → why it cannot be told what it depends on

	mu   sync.Mutex // guards jobs
	jobs []string   // done, in order of their beginning
}

// Resolve implements [InputResolver].
func (w *fakeWorker) Resolve(_ context.Context, op planner.Op, n int, _ []image.Layer) (source.Input, error) {
	if in, ok := w.inputs[command0(op)]; ok {
		return source.Input{Files: []source.FileDigest{{Name: "in", Sum: in}}}, nil
	}
	return source.Input{}, w.missing[command0(op)]
}

func (w *fakeWorker) Do(ctx context.Context, job Job, log io.Writer) (Result, error) {
	name := command0(job.Op)
	w.mu.Lock()
	w.jobs = append(w.jobs, name)
	w.mu.Unlock()
	content := name
	if w.do != nil {
		var err error
		if content, err = w.do(ctx, job, log); err != nil {
			return Result{}, err
		}
	}
	return Result{Layer: fakeLayer(content)}, nil
}

func command0(op planner.Op) string {
	switch op := op.(type) {
	case *planner.Run:
		return op.Args[0]
	case *planner.Mkdir:
		return op.Path
	}
	return "?"
}

func fakeLayer(content string) image.Layer {
	d := digest.FromString(content)
	return image.Layer{Blob: ocispec.Descriptor{Digest: d, Size: int64(len(content))}, DiffID: d}
}

// A graphMaker makes graphs of runs.
type graphMaker struct{ steps []*planner.Step }

func (g *graphMaker) add(op planner.Op, on *planner.Step, reads ...*planner.Step) *planner.Step {
	s := &planner.Step{
		Index: len(g.steps), Op: op, On: on, Reads: reads, Name: "RUN " + command0(op),
		Span: parser.Span{File: "Dockerfile", Start: len(g.steps) + 1},
	}
	g.steps = append(g.steps, s)
	return s
}

func (g *graphMaker) run(name string, on *planner.Step, reads ...*planner.Step) *planner.Step {
	return g.add(&planner.Run{Args: []string{name}, Mounts: []planner.Mount{{Type: planner.Bind, Target: "/in", From: &planner.Input{Read: -1}}}}, on, reads...)
}

func (g *graphMaker) chain(names ...string) *planner.Graph {
	var on *planner.Step
	for _, n := range names {
		on = g.run(n, on)
	}
	return g.graph(on)
}

func (g *graphMaker) graph(result *planner.Step) *planner.Graph {
	return &planner.Graph{Steps: g.steps, Result: result}
}

func testOptions(t *testing.T, w *fakeWorker) Options {
	t.Helper()
	store, err := cache.OpenSteps(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Worker: w, Inputs: w, Cache: store, Publish: func(context.Context) error { return nil }}
}

func build1(t *testing.T, g *planner.Graph, o Options) *Image {
	t.Helper()
	r, err := buildOne(t.Context(), g, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBuildReusesWhatItDid(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	first := build1(t, new(graphMaker).chain("a", "b", "c"), o)
	second := build1(t, new(graphMaker).chain("a", "b", "c"), o)
	if got, want := w.jobs, []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("jobs = %v, want %v", got, want)
	}
	if first.Done != 3 || first.Reused != 0 || second.Done != 0 || second.Reused != 3 {
		t.Errorf("done %d and %d, reused %d and %d", first.Done, second.Done, first.Reused, second.Reused)
	}
	if got, want := second.Layers, first.Layers; !slices.EqualFunc(got, want, func(a, b image.Layer) bool { return a.DiffID == b.DiffID }) || len(got) != 3 {
		t.Errorf("layers = %v, want %v", got, want)
	}
	if !slices.EqualFunc(first.Created, second.Created, time.Time.Equal) || first.Created[0].IsZero() {
		t.Errorf("created %v, then %v", first.Created, second.Created)
	}
}

func TestBuildStopsWhereTheResultIsTheSame(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{inputs: map[string]string{"a": "one"}, do: func(_ context.Context, job Job, _ io.Writer) (string, error) {
		return strings.TrimSuffix(command0(job.Op), "2"), nil // b2 makes what b makes
	}}
	o := testOptions(t, w)
	build1(t, new(graphMaker).chain("a", "b", "c"), o)
	w.jobs = nil
	r := build1(t, new(graphMaker).chain("a", "b2", "c"), o)
	if want := []string{"b2"}; !slices.Equal(w.jobs, want) || r.Reused != 2 {
		t.Errorf("jobs = %v, want %v; reused %d, want 2", w.jobs, want, r.Reused)
	}
	w.jobs = nil
	w.inputs["a"] = "two"
	build1(t, new(graphMaker).chain("a", "b", "c"), o)
	if want := []string{"a"}; !slices.Equal(w.jobs, want) {
		t.Errorf("after a change of a's files: jobs = %v, want %v", w.jobs, want)
	}
}

func TestBuildLooksThroughEmptyLayers(t *testing.T) {
	t.Parallel()
	nothing := strings.Repeat("\x00", 1024)
	w := &fakeWorker{do: func(_ context.Context, job Job, _ io.Writer) (string, error) {
		if name := command0(job.Op); strings.HasPrefix(name, "nothing") {
			return nothing, nil
		}
		return fmt.Sprint(command0(job.Op), " on ", len(job.On)), nil
	}}
	o := testOptions(t, w)
	first := build1(t, new(graphMaker).chain("a", "nothing", "b"), o)
	if len(first.Layers) != 3 || first.Layers[1].DiffID != emptyTar || first.Layers[2].DiffID != fakeLayer("b on 1").DiffID {
		t.Errorf("layers = %v", first.Layers)
	}
	w.jobs = nil
	build1(t, new(graphMaker).chain("a", "nothing more", "b"), o)
	if want := []string{"nothing more"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs = %v, want %v", w.jobs, want)
	}
}

func TestBuildNoCache(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	build1(t, new(graphMaker).chain("a", "b"), o)
	o.NoCache = true
	if r := build1(t, new(graphMaker).chain("a", "b"), o); r.Done != 2 {
		t.Errorf("with NoCache: done %d, want 2", r.Done)
	}
	o.NoCache = false
	g := new(graphMaker).chain("a", "b")
	g.Steps[0].NoCache = true
	if r := build1(t, g, o); r.Done != 1 || r.Reused != 1 {
		t.Errorf("with a step's NoCache: done %d, reused %d, want 1, 1", r.Done, r.Reused)
	}
}

// allBut has all layers but one.
type allBut digest.Digest

func (gone allBut) HaveLayer(_ context.Context, l image.Layer) (bool, error) {
	return string(l.DiffID) != string(gone), nil
}

func TestBuildMissesLayersThatAreGone(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	dir := t.TempDir()
	for _, gone := range []allBut{"", allBut(fakeLayer("a").DiffID)} {
		store, err := cache.OpenSteps(dir, gone)
		if err != nil {
			t.Fatal(err)
		}
		o.Cache = store
		if gone == "" {
			build1(t, new(graphMaker).chain("a", "b"), o)
		}
	}
	w.jobs = nil
	build1(t, new(graphMaker).chain("a", "b"), o)
	if want := []string{"a"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs = %v, want %v", w.jobs, want)
	}
}

func TestBuildRunsStagesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWorker{do: func(ctx context.Context, job Job, _ io.Writer) (string, error) {
			time.Sleep(time.Second)
			return command0(job.Op), nil
		}}
		var g graphMaker
		var stages []*planner.Step
		for i := range 8 {
			stages = append(stages, g.run(fmt.Sprint("s", i), nil))
		}
		last := g.run("last", nil, stages...)
		start := time.Now()
		build1(t, g.graph(last), testOptions(t, w))
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("8 stages and 1 step of a second each took %v, want 2s", got)
		}
		o := testOptions(t, w)
		o.Slots = 4
		start = time.Now()
		build1(t, g.graph(last), o)
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("with 4 slots they took %v, want 3s", got)
		}
	})
}

func TestBuildFailureEndsTheOthers(t *testing.T) {
	t.Parallel()
	var ended atomic.Bool
	slowly := make(chan struct{})
	w := &fakeWorker{do: func(ctx context.Context, job Job, log io.Writer) (string, error) {
		switch command0(job.Op) {
		case "bad":
			<-slowly
			fmt.Fprint(log, "one\ntwo\rlast words")
			return "", &ExitError{Code: 3}
		case "slow":
			close(slowly)
			<-ctx.Done()
			ended.Store(true)
			return "", errors.New("killed")
		}
		return command0(job.Op), nil
	}}
	o := testOptions(t, w)
	var g graphMaker
	slow, bad := g.run("slow", nil), g.run("bad", g.run("good", nil))
	_, err := buildOne(t.Context(), g.graph(g.run("never", nil, slow, bad)), o)
	failure, ok := errors.AsType[*StepError](err)
	if !ok {
		t.Fatalf("error = %v, want a StepError", err)
	}
	if failure.Step != bad || failure.ExitCode != 3 || string(failure.Tail) != "one\nlast words" {
		t.Errorf("failure = %v, exit code %d, tail %q", failure.Step.Name, failure.ExitCode, failure.Tail)
	}
	if got, want := err.Error(), "Dockerfile:3: RUN bad: exit code 3"; got != want {
		t.Errorf("error = %q, want %q", got, want)
	}
	if !ended.Load() || slices.Contains(w.jobs, "never") {
		t.Errorf("the slow step was cancelled: %v; jobs = %v", ended.Load(), w.jobs)
	}
	w.do, w.jobs = nil, nil
	if build1(t, g.graph(g.steps[3]), o); slices.Contains(w.jobs, "good") {
		t.Error("the step that was done before the failure was not remembered")
	}
}

func TestBuildCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("ctrl-c")
	w := &fakeWorker{do: func(ctx context.Context, job Job, _ io.Writer) (string, error) {
		if command0(job.Op) == "b" {
			cancel(reason)
			<-ctx.Done()
			return "", ctx.Err()
		}
		return command0(job.Op), nil
	}}
	o := testOptions(t, w)
	published := 0
	o.Publish = func(ctx context.Context) error { published++; return ctx.Err() }
	var failed bool
	o.Events = func(e event.Event) { failed = failed || e.Kind == event.Failed }
	if _, err := buildOne(ctx, new(graphMaker).chain("a", "b", "c"), o); !errors.Is(err, reason) {
		t.Errorf("error = %v, want %v", err, reason)
	}
	if published != 1 || failed {
		t.Errorf("published %d times, want 1; a failure was shown: %v", published, failed)
	}
	w.do, w.jobs = nil, nil
	build1(t, new(graphMaker).chain("a", "b", "c"), o)
	if want := []string{"b", "c"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs = %v, want %v", w.jobs, want)
	}
}

// More layers than an image can have are refused before the first step is done.
func TestBuildTooDeep(t *testing.T) {
	t.Parallel()
	base := &image.Image{}
	for i := range 300 {
		l := fakeLayer(fmt.Sprint(i))
		base.Manifest.Layers = append(base.Manifest.Layers, l.Blob)
		base.Config.RootFS.DiffIDs = append(base.Config.RootFS.DiffIDs, l.DiffID)
	}
	for steps, want := range map[int]string{200: "", 201: "Dockerfile:202: RUN 200: its file system would have 501 layers, and 500 are the most"} {
		w := &fakeWorker{}
		var g graphMaker
		last := g.add(&planner.Base{Image: base}, nil)
		for i := range steps {
			last = g.run(fmt.Sprint(i), last)
		}
		_, err := buildOne(t.Context(), g.graph(last), testOptions(t, w))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want) || len(w.jobs) > 0) {
			t.Errorf("%d steps: %v after %d jobs, want %s", steps, err, len(w.jobs), want)
		}
	}
}

func TestBuildBase(t *testing.T) {
	t.Parallel()
	img := &image.Image{}
	for _, name := range []string{"x", "y"} {
		l := fakeLayer(name)
		img.Manifest.Layers = append(img.Manifest.Layers, l.Blob)
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, l.DiffID)
	}
	var g graphMaker
	base := g.add(&planner.Base{Image: img}, nil)
	var on int
	w := &fakeWorker{do: func(_ context.Context, job Job, _ io.Writer) (string, error) {
		on = len(job.On)
		return command0(job.Op), nil
	}}
	o := testOptions(t, w)
	r := build1(t, g.graph(g.run("a", base)), o)
	if len(r.Layers) != 3 || r.Layers[0].DiffID != fakeLayer("x").DiffID || r.Layers[2].DiffID != fakeLayer("a").DiffID {
		t.Errorf("layers = %v", r.Layers)
	}
	if on != 2 {
		t.Errorf("the step stands on %d layers, want 2", on)
	}
}

// TestBuildResolvesFirst holds that what a step reads from outside is asked for at once, so that the build ends before what
// comes before that step has been done in vain.
func TestBuildResolvesFirst(t *testing.T) {
	t.Parallel()
	gone := errors.New("not found")
	w := &fakeWorker{missing: map[string]error{"last": gone}, do: func(ctx context.Context, _ Job, _ io.Writer) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}}
	g := new(graphMaker).chain("first", "last")
	_, err := buildOne(t.Context(), g, testOptions(t, w))
	failure, ok := errors.AsType[*StepError](err)
	if !ok || failure.Step != g.Steps[1] || !errors.Is(err, gone) {
		t.Errorf("%v, want that of the last step", err)
	}
}

// TestBuildSlots holds that many commands that only wait do so side by side.
func TestBuildSlots(t *testing.T) {
	t.Parallel()
	const n = 100
	var all sync.WaitGroup
	all.Add(n)
	w := &fakeWorker{do: func(_ context.Context, job Job, _ io.Writer) (string, error) {
		if name := command0(job.Op); name != "end" {
			all.Done()
			all.Wait() // for all the others
		}
		return command0(job.Op), nil
	}}
	g := &graphMaker{}
	var waiting []*planner.Step
	for i := range n {
		waiting = append(waiting, g.run(fmt.Sprint("wait ", i), nil))
	}
	build1(t, g.graph(g.run("end", nil, waiting...)), testOptions(t, w))
}

func TestProbe(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	build1(t, new(graphMaker).chain("a", "b"), o)
	w.jobs = nil
	known, err := Probe(t.Context(), new(graphMaker).chain("a", "x", "b"), o)
	if want := []bool{true, false, false}; err != nil || !slices.Equal(known, want) {
		t.Errorf("known = %v, %v, want %v", known, err, want)
	}
	if len(w.jobs) > 0 {
		t.Errorf("Probe did %v", w.jobs)
	}
}

// TestBuildSince holds that a build that is told not to ask the cache, and is tried again, does nothing twice.
func TestBuildSince(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	build1(t, new(graphMaker).chain("a", "b"), o)
	o.NoCache, o.Since = true, time.Now()
	if r := build1(t, new(graphMaker).chain("a", "b"), o); r.Done != 2 {
		t.Errorf("of what was remembered before %d steps are done, want 2", r.Done)
	}
	if r := build1(t, new(graphMaker).chain("a", "b", "c"), o); r.Reused != 2 || r.Done != 1 {
		t.Errorf("of what was done since %d steps are reused and %d done, want 2 and 1", r.Reused, r.Done)
	}
}

// TestReach holds that what is not needed to get to a place is not done, and what the job there stands on.
func TestReach(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	g := &graphMaker{}
	a := g.run("a", nil)
	b := g.run("b", a)
	other := g.run("other", a)
	last := g.run("last", b, other)
	graph := g.graph(last)
	for _, s := range graph.Steps {
		s.Around, _ = s.Op.(*planner.Run)
	}
	for _, test := range []struct {
		place Place
		jobs  []string
		below int
	}{
		{Place{Step: b}, []string{"a"}, 1},
		{Place{Step: b, After: true}, []string{"b"}, 2},
		{Place{Step: last}, []string{"other"}, 2},
		{Place{Step: last, After: true}, []string{"last"}, 3},
	} {
		w.jobs = nil
		job, err := Reach(t.Context(), graph, test.place, o)
		if err != nil || job.Op != test.place.Step.Op || len(job.On) != test.below || !slices.Equal(w.jobs, test.jobs) {
			t.Errorf("to %s (after: %v): did %v, job of %T on %d layers, %v; want %v and %d",
				test.place.Step.Name, test.place.After, w.jobs, job.Op, len(job.On), err, test.jobs, test.below)
		}
	}
}

func TestBuildExplains(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{inputs: map[string]string{"a": "one"}}
	o := testOptions(t, w)
	o.Explain = true
	var said []string
	o.Events = func(e event.Event) {
		if e.Kind == event.Explain || e.Kind == event.Note {
			said = append(said, e.Step.Name+": "+e.Text)
		}
	}
	build1(t, new(graphMaker).chain("a"), o)
	w.inputs["a"] = "two"
	build1(t, new(graphMaker).chain("a"), o)
	want := []string{
		"RUN a: nothing like it was done before",
		"RUN a: file /in: sha256:one → sha256:two",
		"RUN a: its layer came out the same as before",
	}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

// TestBuildExplainsWhatIsBelow holds that a step says which step below it, or which base, is not what it was; and that the event of one that fails
// says why it was done, whether that was asked for or not.
func TestBuildExplainsWhatIsBelow(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{do: func(_ context.Context, job Job, _ io.Writer) (string, error) {
		if command0(job.Op) == "bad" {
			return "", &ExitError{Code: 1}
		}
		return image.ChainID(job.On).String() + command0(job.Op), nil
	}}
	o := testOptions(t, w)
	o.Explain = true
	var said []string
	o.Events = func(e event.Event) {
		switch e.Kind {
		case event.Explain:
			said = append(said, e.Step.Name+": "+e.Text)
		case event.Failed:
			said = append(said, e.Step.Name+" failed: "+strings.Join(e.Why.Lines(), "; "))
		}
	}
	graph := func(base string, names ...string) *planner.Graph {
		g := &graphMaker{}
		img := &image.Image{Descriptor: ocispec.Descriptor{Digest: digest.FromString(base)}}
		img.Manifest.Layers = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(base)}}
		img.Config.RootFS.DiffIDs = []digest.Digest{digest.FromString(base)}
		on := g.add(&planner.Base{Ref: "base", Image: img}, nil)
		for _, name := range names {
			on = g.run(name, on)
		}
		return g.graph(on)
	}
	build1(t, graph("one", "a", "b"), o)
	for _, test := range []struct {
		base  string
		names []string
		want  []string
	}{
		{"one", []string{"a", "x", "b"}, []string{
			`RUN x: command: "b" → "x"`, "RUN b: below #3 RUN x: sha256:",
		}},
		{"two", []string{"a"}, []string{
			"RUN a: base base: " + digest.FromString("one").String()[:19] + " → " + digest.FromString("two").String()[:19],
		}},
		{"one", []string{"a", "bad"}, []string{`RUN bad: command: `, `RUN bad failed: command: `}},
	} {
		said = nil
		o.Explain = true
		_, _ = buildOne(t.Context(), graph(test.base, test.names...), o)
		if !slices.EqualFunc(said, test.want, strings.HasPrefix) {
			t.Errorf("%s %v: said %q, want %q", test.base, test.names, said, test.want)
		}
	}
}

func BenchmarkBuildFromCache(b *testing.B) {
	store, err := cache.OpenSteps(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	o := Options{Worker: &fakeWorker{}, Inputs: &fakeWorker{}, Cache: store, Publish: func(context.Context) error { return nil }, Events: func(event.Event) {}}
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprint("step", i))
	}
	g := new(graphMaker).chain(names...)
	for b.Loop() {
		if _, err := buildOne(b.Context(), g, o); err != nil {
			b.Fatal(err)
		}
	}
}

// unreachable is a cache that can be neither asked nor told.
type unreachable struct{ cache.Cache }

var errUnreachable = errors.New("the cache is out of reach")

func (unreachable) Get(context.Context, cache.Key) (cache.Entry, bool, error) {
	return cache.Entry{}, false, errUnreachable
}

func (unreachable) Put(context.Context, cache.Key, cache.Entry) error { return errUnreachable }

// TestBuildWithoutItsCache holds that a cache which cannot be reached costs a warning and the work.
func TestBuildWithoutItsCache(t *testing.T) {
	t.Parallel()
	o := testOptions(t, &fakeWorker{})
	o.Cache = unreachable{o.Cache}
	var warnings []string
	o.Events = func(e event.Event) {
		if e.Kind == event.Warning {
			warnings = append(warnings, e.Text)
		}
	}
	if r := build1(t, new(graphMaker).chain("a", "b"), o); r.Done != 2 {
		t.Errorf("did %d steps, want 2", r.Done)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], errUnreachable.Error()) { // it could not be asked, and not told
		t.Errorf("warnings %q, want two", warnings)
	}
}

// TestBuildAudits does again what a cache has answered, and believes itself where that is not the same.
func TestBuildAudits(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	first := build1(t, new(graphMaker).chain("a", "b"), o)
	o.Audit = 1
	w.jobs = nil
	if r := build1(t, new(graphMaker).chain("a", "b"), o); r.Reused != 2 || len(w.jobs) != 2 || image.ChainID(r.Layers) != image.ChainID(first.Layers) {
		t.Errorf("of what is right %d steps are reused and %v were done, want 2 and all", r.Reused, w.jobs)
	}
	w.do = func(_ context.Context, job Job, _ io.Writer) (string, error) { return command0(job.Op) + "!", nil }
	var warnings []string
	o.Events = func(e event.Event) {
		if e.Kind == event.Warning {
			warnings = append(warnings, e.Text)
		}
	}
	// One that differs only in its times is reused all the same.
	o.Compare = func(context.Context, image.Layer, image.Layer) ([]event.Change, int, error) { return nil, 0, nil }
	if r := build1(t, new(graphMaker).chain("a", "b"), o); r.Reused != 2 || image.ChainID(r.Layers) != image.ChainID(first.Layers) || len(warnings) > 0 {
		t.Errorf("of what is alike %d steps are reused with warnings %q, want 2 and none", r.Reused, warnings)
	}
	o.Compare = func(context.Context, image.Layer, image.Layer) ([]event.Change, int, error) {
		return []event.Change{{Field: "file", Name: "/bin/sh", How: event.Replaced}}, 0, nil
	}
	r := build1(t, new(graphMaker).chain("a", "b"), o)
	if r.Done != 2 || image.ChainID(r.Layers) == image.ChainID(first.Layers) || len(warnings) != 1 || !strings.Contains(warnings[0], "/bin/sh") {
		t.Errorf("of what is wrong %d steps are done with warnings %q, want 2 and one of /bin/sh", r.Done, warnings)
	}
}

// buildOne builds one graph.
func buildOne(ctx context.Context, g *planner.Graph, o Options) (*Image, error) {
	images, err := Build(ctx, []*planner.Graph{g}, o)
	if err != nil {
		return nil, err
	}
	return images[0], nil
}
