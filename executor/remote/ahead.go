package remote

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/cache/cas"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/flight"
	"github.com/forge-build/forge/internal/reapi"
)

// Steps that stand on one another would be looked up one after the other, since the key of one holds the layer of the one before. So whoever
// has had a chain of them done leaves on the server which actions followed the first one, under a name as package cas has them, with the key of
// the first. The next machine finds that while it gets ready to look the first one up, and looks all up at once. A list is a guess: what
// counts is the result that the server has of the action which a step comes to, so that a wrong one costs time and no more.

const (
	longEnough = 2   // steps that stand on the first of a chain, for which it is worth while
	maxChains  = 64  // that a build follows: with more of them, most steps are looked up side by side anyway
	maxAhead   = 400 // actions of a chain
	atOnce     = 100 // of them that are looked up at once

	maxKept = 64 << 10 // bytes of what came of one
)

// A chain is what follows an action whose layers no action has made.
type chain struct {
	key    cache.Key                // of the first step
	listed *flight.Flight[[]string] // what the server says of it
	now    []string                 // what follows, as lines of the list; guarded by Cluster.mu
}

// follow notes an action of a chain, which may be nil. Cluster.mu is held.
func (ch *chain) follow(a *action) {
	if ch != nil && !a.first && len(ch.now) < maxAhead {
		ch.now = append(ch.now, a.line())
	}
}

// line is an action in the list of a chain.
func (a *action) line() string {
	if len(a.inline) > 0 {
		return onlyInput + a.digest.String()
	}
	return a.digest.String()
}

// onlyInput begins the line of an action that finds out what an input comes to.
const onlyInput = "input/"

// ahead are the results of actions that are looked up before a step asks for them.
type ahead struct {
	asking  sync.WaitGroup
	results flight.Group[reapi.Digest, lookedUp]
}

type lookedUp struct {
	result *reapi.ActionResult
	err    error
}

// chainOf is the chain that a job belongs to: that of the layers that it stands on or reads, or else a new one if enough follows; nil is none.
func (c *Cluster) chainOf(ctx context.Context, job *executor.Job, key cache.Key) (ch *chain, first bool) {
	if job.Hints.Again {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, layers := range append([][]image.Layer{job.On}, job.Reads...) {
		for _, l := range slices.Backward(layers) {
			if ch, made := c.made[l.DiffID]; made {
				return ch, false
			}
		}
	}
	if job.Hints.Behind < longEnough || len(c.chains) == maxChains {
		return nil, false
	}
	ch = &chain{key: key, listed: flight.New[[]string]()}
	c.chains = append(c.chains, ch)
	c.ahead.asking.Go(func() { c.askAhead(ctx, ch) })
	return ch, true
}

// afterName is the name that the list of a chain has on the server. Another program makes other actions.
func (c *Cluster) afterName(ch *chain) (string, error) {
	self, err := c.self()
	return fmt.Sprintf("after/%s/%s", self.Digest.Hash, ch.key), err
}

// askAhead asks for the list of a chain, and looks up what is in it.
func (c *Cluster) askAhead(ctx context.Context, ch *chain) {
	name, err := c.afterName(ch)
	var text []byte
	if err == nil {
		text, err = cas.Bucket{Client: c.client}.Read(ctx, name)
	}
	if err != nil { // nobody has left one, or all has to be asked for one by one
		ch.listed.Land(nil)
		return
	}
	lines := strings.Split(string(text), "\n")
	lines = lines[:min(len(lines), maxAhead)]
	var g errgroup.Group
	g.SetLimit(atOnce)
	asked := make([]func() error, 0, len(lines))
	for _, line := range lines {
		of, only := strings.CutPrefix(line, onlyInput)
		var inline []string
		if only {
			inline = []string{executor.OutcomeFile}
		}
		d, ok := reapi.ParseResource(of)
		if !ok || of != d.String() {
			continue
		}
		f, first := c.ahead.results.Of(d)
		if !first {
			continue
		}
		asked = append(asked, func() error {
			r, err := c.lookUp(ctx, d, inline...)
			f.Land(lookedUp{r, err})
			return nil
		})
	}
	ch.listed.Land(lines)
	for _, ask := range asked {
		g.Go(ask)
	}
	_ = g.Wait() // the errors are in the flights
}

// lookUp asks the server for the result of an action. Of what it says, only what is used is kept.
func (c *Cluster) lookUp(ctx context.Context, d reapi.Digest, inline ...string) (*reapi.ActionResult, error) {
	r, err := c.client.Result(ctx, d, inline...)
	if r == nil {
		return nil, err
	}
	r.Stdout, r.Stderr = nil, nil
	r.Files = slices.DeleteFunc(r.Files, func(f reapi.OutputFile) bool { return f.Path != executor.OutcomeTar && f.Path != executor.OutcomeFile })
	for i := range r.Files {
		if f := &r.Files[i]; len(f.Contents) > maxKept {
			f.Contents = nil // which can be read
		}
	}
	return r, err
}

// result is what the server has of an action; nil if it has nothing. What was looked up ahead is not asked for again.
func (c *Cluster) result(ctx context.Context, a *action) (*reapi.ActionResult, error) {
	if a.chain != nil && !a.first {
		if _, err := a.chain.listed.Wait(ctx); err != nil {
			return nil, err
		}
		if f := c.ahead.results.Take(a.digest); f != nil {
			if r, err := f.Wait(ctx); err == nil && r.err == nil {
				return r.result, nil
			}
		}
	}
	return c.lookUp(ctx, a.digest, a.inline...)
}

// Close waits for what was asked ahead.
func (c *Cluster) Close() error {
	c.ahead.asking.Wait()
	return nil
}

// Keep leaves the lists of chains that have become others, for machines that have nothing. A server that takes no names does without.
func (c *Cluster) Keep(ctx context.Context) {
	c.ahead.asking.Wait()
	documents := map[string][]byte{}
	c.mu.Lock()
	for _, ch := range c.chains {
		was, err := ch.listed.Wait(ctx)
		slices.Sort(ch.now)
		if err != nil || len(ch.now) < longEnough || slices.Equal(was, ch.now) {
			continue
		}
		if name, err := c.afterName(ch); err == nil {
			documents[name] = []byte(strings.Join(ch.now, "\n"))
		}
	}
	c.chains = nil
	c.mu.Unlock()
	if len(documents) == 0 || c.Down() != nil {
		return
	}
	if caps, err := c.client.Capabilities(ctx); err != nil || !caps.CanUpdate() {
		return
	}
	_ = cas.Bucket{Client: c.client}.WriteAll(ctx, documents) // then others look up one after the other
}
