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

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A Job is a Step whose inputs are known. It is plain data and complete in itself: any machine that can fetch its layers
// can do it. It round-trips through JSON.
type Job struct {
	Op     planner.Op
	On     []image.Layer   // the file system to change, lowest first
	Reads  [][]image.Layer // file systems to read from
	Inputs []source.Input  // what each source of a COPY, or each mount of a RUN, came to
	Epoch  *time.Time      // SOURCE_DATE_EPOCH: no file of the layer is younger; nil is no limit
}

// jobJSON is a Job with its operation as text.
type jobJSON struct {
	Op     json.RawMessage `json:"op"`
	On     []image.Layer   `json:"on,omitempty"`
	Reads  [][]image.Layer `json:"reads,omitempty"`
	Inputs []source.Input  `json:"inputs,omitempty"`
	Epoch  *time.Time      `json:"epoch,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (j Job) MarshalJSON() ([]byte, error) {
	op, err := planner.MarshalOp(j.Op)
	if err != nil {
		return nil, err
	}
	return json.Marshal(jobJSON{op, j.On, j.Reads, j.Inputs, j.Epoch})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (j *Job) UnmarshalJSON(text []byte) error {
	var w jobJSON
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	op, err := planner.UnmarshalOp(w.Op)
	if err != nil {
		return fmt.Errorf("job: %w", err)
	}
	*j = Job{op, w.On, w.Reads, w.Inputs, w.Epoch}
	return nil
}

// A Result is what came of a job.
type Result struct {
	Layer image.Layer // staged, not yet durable
}

// A Worker does jobs. Package local does them on this machine.
type Worker interface {
	// Do does the job and writes what its command prints to log. What the job reads is what its Inputs say, or it fails.
	Do(ctx context.Context, job Job, log io.Writer) (Result, error)
}

// An InputResolver says what operations read has come to; [source.Resolver] is one.
type InputResolver interface {
	// Resolve resolves the n'th source of a COPY or mount of a RUN. Layers are the file system that it is read from, if that
	// is a step's; what is asked about them must be answered alike for ever.
	Resolve(ctx context.Context, op planner.Op, n int, layers []image.Layer) (source.Input, error)
}
