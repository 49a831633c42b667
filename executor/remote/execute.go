package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
)

const (
	maxOutcome  = 1 << 20  // bytes of a result.json
	maxLog      = 64 << 20 // bytes of what a command has printed
	maxWarnings = 20       // of one worker
	maxShown    = 1000     // bytes of what a worker says, in a line of ours
	sends       = 3        // how often the content of an action is sent, to a server that loses it
)

// away has a job done by the server, unless it knows what comes of it.
func (w *Worker) away(ctx context.Context, job executor.Job, log io.Writer) (r executor.Result, err error) {
	urgency := job.Hints.Urgency
	if urgency == nil {
		urgency = func() float64 { return 0 }
	}
	if err := w.Cluster.prepare.Wait(ctx, urgency); err != nil {
		return r, err
	}
	prepared := sync.OnceFunc(w.Cluster.prepare.Leave)
	defer prepared()
	able := make(chan error, 1)
	go func(ctx context.Context) { able <- w.able(ctx) }(ctx) // while the server is asked for other things; ctx changes below
	a, err := w.action(ctx, job)
	if err != nil {
		return r, cmp.Or(<-able, err)
	}
	ctx = reapi.WithLabel(ctx, labelOf(&job, a))
	skip := job.Hints.Again
	var known *executor.Result
	if !skip {
		known, skip, err = w.known(ctx, a)
	}
	if err = cmp.Or(<-able, err); err != nil {
		return r, err
	}
	if known != nil {
		return *known, nil
	}
	for try := 1; ; try++ {
		if err := w.upload(ctx, a, w.meter(&job)); err != nil {
			return r, err
		}
		needs := a.needs()
		a = &action{digest: a.digest, chain: a.chain, first: a.first} // the rest is made anew if the server lacks something: a thousand may be waiting
		prepared()
		x, err := w.execute(ctx, &job, reapi.Execution{Action: a.digest, SkipCache: skip, Priority: w.priority(ctx, &job)}, log)
		if err == nil {
			return w.outcome(ctx, a, x, log)
		}
		if try == sends || ctx.Err() != nil || !w.lacks(ctx, needs) {
			return r, err
		}
		if a, err = w.action(ctx, job); err != nil {
			return r, err
		}
	}
}

// labelOf is what people who look at the server see of a job.
func labelOf(job *executor.Job, a *action) reapi.Label {
	label := reapi.Label{Mnemonic: mnemonic(job.Op), Action: a.digest}
	if s := job.Hints.Step; s != nil {
		label.Target = fmt.Sprintf("%s/%d", s.Stage, s.Number)
	}
	return label
}

// priority is that of a job at the server.
func (w *Worker) priority(ctx context.Context, job *executor.Job) int32 {
	caps, err := w.Cluster.client.Capabilities(ctx)
	if err != nil || job.Hints.Urgency == nil || caps.Execution.Priorities == nil {
		return 0
	}
	return caps.Priority(job.Hints.Urgency())
}

// able reports why the server cannot do jobs.
func (w *Worker) able(ctx context.Context) error {
	caps, err := w.Cluster.client.Capabilities(ctx)
	if err == nil && !caps.CanExecute() {
		err = fmt.Errorf("%s: executes nothing: it may be good for --cache", w.Cluster)
	}
	return err
}

// known looks an action up. A result whose layer is gone, or was found to be something else, is bad: the action is executed again. A server
// is believed that it has the layers of results, so that a look-up is one call: one that is gone is found when it is needed, its step is done
// again, and from then on the server is asked.
func (w *Worker) known(ctx context.Context, a *action) (known *executor.Result, bad bool, err error) {
	c := w.Cluster.client
	result, err := w.Cluster.result(ctx, a)
	if err != nil || result == nil || result.ExitCode != 0 {
		return nil, result != nil, err
	}
	layer, ok := layerOf(result)
	if !ok || w.Cluster.lostBefore(layer.DiffID) > 0 {
		return nil, true, nil
	}
	if w.Cluster.doubts() {
		if missing, err := c.Missing(ctx, []reapi.Digest{digestOf(layer)}); err != nil || len(missing) > 0 {
			return nil, true, err
		}
	}
	w.Cluster.keep(layer, a)
	r := &executor.Result{Layer: layer, Place: c.String(), Known: true}
	if m := result.Metadata; m != nil {
		if r.Made = m.Completed.Time(); r.Made.After(time.Now()) {
			r.Made = time.Time{}
		}
		r.Took = cmp.Or(between(m.RunStart, m.RunEnd), between(m.Started, m.Completed))
	}
	return r, false, nil
}

// between is the time from one to the other; 0 if that makes no sense.
func between(from, to *reapi.Timestamp) time.Duration {
	if from == nil || to == nil {
		return 0
	}
	return max(0, to.Time().Sub(from.Time()))
}

// layerOf is the layer that an action has made.
func layerOf(r *reapi.ActionResult) (image.Layer, bool) {
	f := r.File(executor.OutcomeTar)
	if f == nil {
		return image.Layer{}, false
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: f.Digest.Name(), Size: f.Digest.Size}
	return image.Layer{Blob: d, DiffID: d.Digest}, true
}

// needs is the content of an action.
func (a *action) needs() (all []reapi.Digest) {
	for _, b := range append(slices.Clip(a.small), a.large...) {
		all = append(all, b.Digest)
	}
	return all
}

// lacks asks anew what the server has of what an action needs, and reports whether something is missing. Not every server says that it is this
// that an execution has failed for.
func (w *Worker) lacks(ctx context.Context, all []reapi.Digest) bool {
	w.Cluster.client.Forget(all...)
	missing, err := w.Cluster.client.Missing(ctx, all)
	return err == nil && len(missing) > 0
}

// execute has an action executed, and shows how it stands.
func (w *Worker) execute(ctx context.Context, job *executor.Job, e reapi.Execution, log io.Writer) (*execution, error) {
	logCtx, cancel := context.WithCancel(ctx)
	x := &execution{worker: w, job: job, log: log, ctx: logCtx}
	defer x.wait(cancel)
	w.show(job, "%s: waiting for a worker", w.Cluster)
	e.Inline, e.Watch = []string{executor.OutcomeFile}, x.watch
	var err error
	x.response, err = w.Cluster.client.Execute(ctx, e)
	return x, err
}

// An execution is an action at work.
type execution struct {
	worker   *Worker
	job      *executor.Job
	log      io.Writer
	ctx      context.Context // of the live log
	response *reapi.ExecuteResponse

	stage   reapi.Stage
	streams sync.WaitGroup
	live    string // name of the stream that is read; "" if there is none
	said    int64  // bytes that came of it
}

// watch is told how the execution stands, by one goroutine.
func (x *execution) watch(p reapi.Progress) {
	if p.Stdout != "" && x.live == "" {
		x.live = p.Stdout
		x.streams.Go(func() { x.follow(p.Stdout) })
	}
	if p.Stage == x.stage {
		return
	}
	x.stage = p.Stage
	place := x.worker.Cluster
	switch p.Stage {
	case reapi.Queued:
		x.worker.show(x.job, "%s: queued", place)
	case reapi.Executing:
		logs := ", its log comes at the end"
		if x.live != "" {
			logs = ""
		}
		x.worker.show(x.job, "%s: executing%s", place, logs)
	}
}

// follow copies what the command prints while it prints it. What is lost of it comes at the end.
func (x *execution) follow(name string) {
	r, err := x.worker.Cluster.client.Stream(x.ctx, name, 0)
	if err != nil {
		return
	}
	defer r.Close()
	x.said, _ = io.Copy(x.log, io.LimitReader(r, maxLog)) // the rest comes at the end
}

// patience is how long the end of a live log is waited for when the execution has ended.
const patience = 2 * time.Second

// wait waits for the end of the live log.
func (x *execution) wait(cancel func()) {
	late := time.AfterFunc(patience, cancel)
	x.streams.Wait()
	late.Stop()
	cancel()
}

// outcome is what came of an execution. Its layer stays on the server.
func (w *Worker) outcome(ctx context.Context, a *action, x *execution, log io.Writer) (r executor.Result, err error) {
	c, result := w.Cluster.client, x.response.Result
	r.Place = "at " + c.String()
	if m := result.Metadata; m != nil && m.Worker != "" {
		r.Place += " by " + shown(m.Worker)
	}
	if err := w.showRest(ctx, result, x.said, log); err != nil {
		return r, fmt.Errorf("what the command has printed: %w", err)
	}
	out, err := w.readOutcome(ctx, result)
	if err != nil {
		return r, w.said(ctx, result, err)
	}
	for _, text := range out.Warnings[:min(len(out.Warnings), maxWarnings)] {
		w.Cluster.warn("%s: %s", c, shown(text))
	}
	named, err := out.Result()
	r.Usage = named.Usage
	if err != nil && out.Weaker != "" && w.Cluster.options.Policy != Only {
		return r, fmt.Errorf("%w: %w: %s", executor.ErrWeaker, err, out.Weaker)
	}
	if err != nil {
		return r, err
	}
	layer, ok := layerOf(result)
	if !ok || result.ExitCode != 0 || layer.DiffID != named.Layer.DiffID {
		return r, fmt.Errorf("%w: it has made layer %s and gives %s", executor.ErrWorker, named.Layer.DiffID, layer.DiffID)
	}
	if w.Cluster.lostBefore(layer.DiffID) > 1 {
		return r, fmt.Errorf("layer %s cannot be had from the server, or is something else: %w", layer.DiffID, executor.ErrWorker)
	}
	r.Layer, r.Known = layer, x.response.Cached
	w.Cluster.keep(layer, a)
	c.Made(digestOf(layer))
	return r, nil
}

// showRest shows what a command has printed, without the first bytes, which were shown before. Of very much, the end is left out.
func (w *Worker) showRest(ctx context.Context, result *reapi.ActionResult, said int64, log io.Writer) error {
	if d := result.StdoutDigest; len(result.Stdout) == 0 && d != nil && d.Size > maxLog {
		w.Cluster.warn("%s: the command has printed %s, of which %s are shown", w.Cluster, units.HumanSize(float64(d.Size)), units.HumanSize(maxLog))
		if said >= maxLog {
			return nil
		}
		r, err := w.Cluster.client.Read(ctx, *d, said)
		if err != nil {
			return err
		}
		_, err = io.Copy(log, io.LimitReader(r, maxLog-said))
		return errors.Join(err, r.Close())
	}
	printed, err := w.Cluster.client.Output(ctx, result.Stdout, result.StdoutDigest, maxLog)
	if err == nil {
		_, err = log.Write(printed[min(said, int64(len(printed))):])
	}
	return err
}

// readOutcome reads what the worker has written.
func (w *Worker) readOutcome(ctx context.Context, result *reapi.ActionResult) (*executor.Outcome, error) {
	f := result.File(executor.OutcomeFile)
	if f == nil && result.ExitCode != 0 { // not every server keeps files then: the last line that it has printed says the same
		said, err := w.Cluster.client.Output(ctx, result.Stderr, result.StderrDigest, maxOutcome)
		if err != nil {
			return nil, err
		}
		said = bytes.TrimSpace(said)
		if o, err := executor.ParseOutcome(said[bytes.LastIndexByte(said, '\n')+1:]); err == nil {
			return o, nil
		}
	}
	if f == nil {
		return nil, fmt.Errorf("%w: it has left no %s, and exit code %d", executor.ErrWorker, executor.OutcomeFile, result.ExitCode)
	}
	text := f.Contents
	if len(text) == 0 || digest.FromBytes(text) != f.Digest.Name() {
		var err error
		if text, err = w.Cluster.client.ReadAll(ctx, *f.Digest, maxOutcome); err != nil {
			return nil, err
		}
	}
	return executor.ParseOutcome(text)
}

// said adds to an error what the worker has complained of.
func (w *Worker) said(ctx context.Context, result *reapi.ActionResult, err error) error {
	complaint, readErr := w.Cluster.client.Output(ctx, result.Stderr, result.StderrDigest, maxOutcome)
	if text := strings.TrimSpace(string(complaint)); readErr == nil && text != "" {
		return errors.Join(err, errors.New(shown(text)))
	}
	return err
}

// shown is the end of what a worker says, without what would do something to a terminal.
func shown(text string) string {
	text = strings.ToValidUTF8(text[max(0, len(text)-maxShown):], "?")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
}

// meter shows how much of a job was sent.
func (w *Worker) meter(job *executor.Job) func(int) {
	var mu sync.Mutex // guards all below
	var total int64
	var last time.Time
	return func(n int) {
		mu.Lock()
		defer mu.Unlock()
		total += int64(n)
		if time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			w.show(job, "%s: %s sent", w.Cluster, units.HumanSize(float64(total)))
		}
	}
}
