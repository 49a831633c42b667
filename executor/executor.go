// Package executor does the steps of a graph: each from the cache if it can, by a worker if it must.
//
// It knows the order of steps, and nothing of what they do: a worker does jobs, package source resolves what they read.
package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A Job is a Step whose inputs are known. It is plain data and complete in itself: any machine that can fetch its layers
// can do it. It round-trips through JSON.
type Job struct {
	Op     planner.Op      `json:"-"`                // in JSON with its kind, see planner.MarshalOp
	On     []image.Layer   `json:"on,omitempty"`     // the file system to change, lowest first
	Reads  [][]image.Layer `json:"reads,omitempty"`  // file systems to read from
	Inputs []source.Input  `json:"inputs,omitempty"` // what each source of a COPY, or each mount of a RUN, came to
	Only   *int            `json:"only,omitempty"`   // it is not done: what this input comes to is found out; see [Resolving]
	Epoch  *time.Time      `json:"epoch,omitempty"`  // SOURCE_DATE_EPOCH: no file of the layer is younger; nil is no limit
	Hints  Hints           `json:"-"`
}

// Hints are what a worker may want to know of a job and what changes nothing of its layer. They do not travel.
type Hints struct {
	Step  *event.Step          // that the job is of; nil is none
	Took  func() time.Duration // the last time that the step was done, or one like it; 0 is not known, and so is nil. To find out takes a while
	Again bool                 // what is remembered of it is not wanted

	Behind  int            // how many steps stand on each other on top of it, at most
	Urgency func() float64 // what part of the longest way to the end of the build begins with it: from 0 to 1, which goes first. To find out takes a while
}

// MarshalJSON implements [json.Marshaler].
func (j Job) MarshalJSON() ([]byte, error) {
	op, err := planner.MarshalOp(j.Op)
	if err != nil {
		return nil, err
	}
	type fields Job
	return json.Marshal(struct {
		Op json.RawMessage `json:"op"`
		fields
	}{op, fields(j)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (j *Job) UnmarshalJSON(text []byte) error {
	type fields Job
	var op struct {
		Op json.RawMessage `json:"op"`
	}
	if err := json.Unmarshal(text, &op); err != nil {
		return err
	}
	if err := json.Unmarshal(text, (*fields)(j)); err != nil {
		return err
	}
	var err error
	if j.Op, err = planner.UnmarshalOp(op.Op); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	return nil
}

// A Worker does jobs. Package local does them on this machine.
type Worker interface {
	// Do does the job and writes what its command prints to log. What the job reads is what its Inputs say, or it fails. The
	// layer is staged, not yet durable. What a command has used is known also if it has failed.
	Do(ctx context.Context, job Job, log io.Writer) (Result, error)
}

// Workers do the jobs of a build that makes several images: each RUN is that worker's whose secrets, limits and hosts its
// [planner.Run.Request] points to, anything else the first one's.
type Workers []Worker

// Do implements [Worker].
func (ws Workers) Do(ctx context.Context, job Job, log io.Writer) (Result, error) {
	if run, ok := job.Op.(*planner.Run); ok {
		return ws[run.Request].Do(ctx, job, log)
	}
	return ws[0].Do(ctx, job, log)
}

// A Result is what came of a job.
type Result struct {
	Layer image.Layer
	Usage *event.Usage // of its command; nil if it has none, or that is not known
	Place string       // where it was done, for people; "" is this machine
	Why   string       // it was done there; "" says nothing
	Known bool         // it was not done: that place had done it before
	Made  time.Time    // when, if that was before; zero is now
	Took  time.Duration
}

// An InputResolver says what operations read has come to; [source.Resolver] is one.
type InputResolver interface {
	// Resolve resolves the n'th source of a COPY or mount of a RUN. Layers are the file system that it is read from, if that
	// is a step's; what is asked about them must be answered alike for ever.
	Resolve(ctx context.Context, op planner.Op, n int, layers []image.Layer) (source.Input, error)
}
