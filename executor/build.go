package executor

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/flight"
	"github.com/forge-build/forge/internal/turn"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// Options of [Build]. Worker, Inputs, Cache and Publish are needed.
type Options struct {
	Worker  Worker
	Inputs  InputResolver
	Cache   cache.Cache
	Publish func(ctx context.Context) error // makes the layers that Worker made durable
	Slots   int                             // how many jobs a worker has at once; 0 is 128: it limits its own work
	Events  event.Sink                      // takes what happens, one event at a time; may be nil
	Explain bool                            // say why a step is not reused, and which cache has answered
	Audit   float64                         // this part of the steps that the cache answers, 0 to 1, is done all the same, and compared
	Again

	// Away says that the worker has other machines do jobs: it brings the images itself that it needs here, and is told how long steps took.
	Away bool
	// Bases brings the images that steps begin with or read. Nil means that all are here.
	Bases Bases
	// Compare finds the files that differ between two layers, for Explain and Audit, and how many there are besides. Nil compares nothing.
	Compare func(ctx context.Context, before, after image.Layer) (files []event.Change, more int, err error)
	// Mounted finds the files that differ between what was mounted and what is now, by the change of the digest of the whole, and how many there
	// are besides. It may find none. Nil finds none.
	Mounted filesOf
}

// filesOf finds the files behind a change, and how many there are besides.
type filesOf func(ctx context.Context, c event.Change) (files []event.Change, more int, err error)

// Again says what is done although it is remembered.
type Again struct {
	NoCache bool      // every step; what comes of it is remembered
	Since   time.Time // but not a step that was done after it; zero is none
}

// defaultSlots bounds the memory that running commands take, not their work: most of them wait, for a disk or a network.
const defaultSlots = 128

// An Image is what came of a graph: all of an image but its name.
type Image struct {
	Layers  []image.Layer    // of the image, lowest first
	Config  image.Config     // the graph's, with the times that were not known before; without RootFS
	Created []time.Time      // by Step.Index: when the step's layer was made; zero for a Base
	Inputs  [][]source.Input // by Step.Index: what it read, see Job
	Reused  int              // steps of all graphs whose layers were known
	Done    int              // steps of all graphs that were done

	Answered []bool // by Step.Index: the step's layer was known
}

// Build does the steps of graphs that [planner.Join] has joined, or of one, each as soon as what it stands on and reads is known:
// from the cache if it can, by the worker if it must. It returns an image for each graph. The first failure ends the others
// and is returned, a *StepError. What was done is remembered in any case.
func Build(ctx context.Context, graphs []*planner.Graph, o Options) ([]*Image, error) {
	g := graphs[0] // all have the same steps
	b, err := run(ctx, g, g.Steps, o)
	if err != nil {
		return nil, err
	}
	results := make([]*Image, len(graphs))
	for i, g := range graphs {
		results[i] = b.result(g)
	}
	return results, nil
}

// run does some steps of a graph; what they need is among them.
func run(ctx context.Context, g *planner.Graph, some []*planner.Step, o Options) (_ *build, err error) {
	if err := checkDepth(g); err != nil {
		return nil, err
	}
	if o.Slots <= 0 {
		o.Slots = defaultSlots
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	b := &build{
		options:   o,
		slots:     turn.New(o.Slots),
		resolving: make(chan struct{}, resolvers),
		nodes:     make([]node, len(g.Steps)),
		publisher: newPublisher(o, cancel),
		events:    &reporter{steps: Steps(g), sink: o.Events},
		order:     order{graph: g, behind: behind(g)},
		began:     time.Now(),
	}
	b.events.plan(g)
	for i := range b.nodes {
		b.nodes[i].known = make(chan struct{})
	}

	err = b.steps(ctx, some)
	if failure := (*StepError)(nil); err != nil && !errors.As(err, &failure) {
		err = context.Cause(ctx) // why the steps were cancelled
	}
	if unkept := b.publisher.close(); unkept != nil && !errors.Is(err, unkept) {
		err = errors.Join(err, unkept)
	}
	b.events.warn(b.publisher.unremembered)
	return b, err
}

// A build is one call of Build.
type build struct {
	options   Options
	slots     *turn.Queue   // of steps at work
	resolving chan struct{} // holds a token for each step whose inputs from outside are being resolved
	nodes     []node        // by Step.Index
	publisher *publisher
	events    *reporter
	began     time.Time
	flights   flight.Group[cache.Key, cache.Entry] // a question that two steps ask is one job, also where the plan cannot know that, as with equal files of two contexts
	order     order
	begin     func(s *planner.Step) // in a goroutine of its own
	unasked   sync.Once             // the caller knows that the cache cannot be asked
}

// A node is what is known of a step. The step's goroutine writes it and then closes known; others read it after.
type node struct {
	behind   []*planner.Step // that begin when all is known that they need
	lacks    atomic.Int32    // how much of what it needs is not known yet
	known    chan struct{}
	layers   []image.Layer // not to be appended to, but by stackOf
	extended atomic.Bool   // the array of layers belongs to a step that stands on this one
	created  time.Time
	inputs   []source.Input
	answered bool      // by the cache
	began    time.Time // when the worker got the step; zero if it has not
}

// steps does some steps. One that reads something from outside begins at once, so that what is missing is found out before anything has been
// done in vain; another begins when all that it needs is known: ten thousand that wait, each with a stack of its own, would take 80 MB.
func (b *build) steps(ctx context.Context, some []*planner.Step) error {
	g, ctx := errgroup.WithContext(ctx)
	b.begin = func(s *planner.Step) {
		g.Go(func() (err error) {
			for err == nil && s != nil {
				s, err = b.step(ctx, s)
			}
			return err
		})
	}
	for _, s := range some {
		if slices.Contains(inputs(s.Op), outside) {
			continue
		}
		needs := needs(s)
		b.nodes[s.Index].lacks.Store(int32(len(needs)))
		for _, need := range needs {
			b.nodes[need.Index].behind = append(b.nodes[need.Index].behind, s)
		}
	}
	for _, s := range some { // which the steps that have begun may begin, too, but for those that begin here
		if slices.Contains(inputs(s.Op), outside) || len(needs(s)) == 0 {
			b.begin(s)
		}
	}
	return g.Wait()
}

// needs are the steps that a step stands on or reads.
func needs(s *planner.Step) []*planner.Step {
	if s.On == nil {
		return s.Reads
	}
	return append([]*planner.Step{s.On}, s.Reads...)
}

// tell makes a step known, and has the steps begin that waited for nothing else, but for one, which is for the caller to do: a goroutine of its own would
// wake a processor for it, which takes longer than a look into the cache.
func (b *build) tell(s *planner.Step) (next *planner.Step) {
	n := &b.nodes[s.Index]
	close(n.known)
	for _, s := range n.behind {
		if b.nodes[s.Index].lacks.Add(-1) != 0 {
			continue
		}
		if next != nil {
			b.begin(next)
		}
		next = s
	}
	return next
}

// step waits for what s needs and makes it known. It returns a step that can be done next.
func (b *build) step(ctx context.Context, s *planner.Step) (next *planner.Step, err error) {
	n := &b.nodes[s.Index]
	if base, ok := s.Op.(*planner.Base); ok {
		if n.layers = base.Image.Layers(); b.options.Bases == nil || b.options.Bases.Here(base.Image) {
			b.events.send(s, event.Event{Kind: event.Cached})
		}
		return b.tell(s), nil
	}
	entry, answered, err := b.reach(ctx, s)
	if err != nil {
		if ctx.Err() != nil { // the build ended before the step; what the step says of that is noise
			if !n.began.IsZero() {
				b.events.send(s, event.Event{Kind: event.Canceled, Duration: time.Since(n.began)})
			}
			return nil, ctx.Err()
		}
		b.fail(s, err)
		return nil, err
	}
	n.layers = b.stackOf(s, entry.Layer)
	n.created = entry.Created
	n.answered = answered
	return b.tell(s), nil
}

// fail reports why s could not be done. An image that could not be fetched has been reported as its own step.
func (b *build) fail(s *planner.Step, err error) {
	failure, ok := errors.AsType[*StepError](err)
	if !ok {
		return
	}
	failure.Excerpt = failure.Step.Quote()
	if failure.Step != s {
		return
	}
	failed := event.Event{Kind: event.Failed, Error: err.Error(), Text: string(failure.Tail)}
	failed.Failure = &event.Failure{ExitCode: failure.ExitCode, Excerpt: failure.Excerpt}
	failed.Why, failed.Usage = failure.why, failure.usage
	b.events.send(s, failed)
}

// reach waits for the job of s and for a slot, and returns its layer.
func (b *build) reach(ctx context.Context, s *planner.Step) (e cache.Entry, answered bool, err error) {
	job, err := b.job(ctx, s)
	if failure := (*StepError)(nil); err != nil && errors.As(err, &failure) {
		return e, false, err
	} else if err != nil {
		return e, false, &StepError{Step: s, Err: err}
	}
	b.nodes[s.Index].inputs = job.Inputs
	if err := b.slots.Wait(ctx, func() float64 { return b.urgency(ctx, s) }); err != nil {
		return e, false, err
	}
	defer b.slots.Leave()
	return b.answer(ctx, s, job)
}

// stackOf is the layers that s stands on and the one that it adds. Steps that stand on one another share an array: of four hundred,
// arrays of their own are 21 MB.
func (b *build) stackOf(s *planner.Step, layer image.Layer) []image.Layer {
	if s.On == nil {
		return []image.Layer{layer}
	}
	on := &b.nodes[s.On.Index]
	if on.extended.CompareAndSwap(false, true) { // for one step that stands on it, what is behind its layers is free
		return append(on.layers, layer)
	}
	return append(slices.Clip(on.layers), layer)
}

// emptyTar is the diffID of a layer with nothing in it: that of a tar of two blocks of zeros.
const emptyTar = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// nonEmpty leaves out layers that change nothing. A job need not know of them, nor its key.
func nonEmpty(layers []image.Layer) []image.Layer {
	if !slices.ContainsFunc(layers, isEmpty) { // as nearly always; a copy for each step is much of a build of hundreds
		return slices.Clip(layers)
	}
	return slices.DeleteFunc(slices.Clone(layers), isEmpty)
}

func isEmpty(l image.Layer) bool { return l.DiffID == emptyTar }

// job resolves what s reads from outside, waits for the layers that it needs and resolves what it reads of them.
func (b *build) job(ctx context.Context, s *planner.Step) (Job, error) {
	job := Job{Op: s.Op, Epoch: s.Epoch}
	resolved, err := b.resolveOutside(ctx, s)
	if err != nil {
		return Job{}, err
	}
	layers := func(of *planner.Step) ([]image.Layer, error) {
		select {
		case <-b.nodes[of.Index].known:
			return nonEmpty(b.nodes[of.Index].layers), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.On != nil {
		if job.On, err = layers(s.On); err != nil {
			return Job{}, err
		}
	}
	for _, r := range s.Reads {
		read, err := layers(r)
		if err != nil {
			return Job{}, err
		}
		job.Reads = append(job.Reads, read)
	}
	if len(job.Reads) > 0 {
		resolved, err = b.resolve(ctx, s, resolved, job.Reads)
	}
	job.Inputs = resolved
	return job, err
}
