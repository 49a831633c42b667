package reapitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/reapi"
)

// An operation is an action at work. What it has come to is valid once done is closed.
type operation struct {
	name     string
	started  chan struct{} // closed when a worker has it
	done     chan struct{}
	response reapi.ExecuteResponse
	log      *io.PipeReader // nil if it is not live
	writer   *io.PipeWriter
}

// execute begins an operation, or joins one of the same action, and tells of it until it ends.
func (s *Server) execute(c *grpc.Stream) error {
	var in reapi.ExecuteRequest
	if err := c.Recv(&in); err != nil {
		return err
	}
	if r := s.Result(*in.Action); r != nil && !in.SkipCache {
		o := &operation{name: "cached", done: make(chan struct{}), started: make(chan struct{})}
		o.response = reapi.ExecuteResponse{Result: s.inlined(r, in.InlineFiles), Cached: true}
		close(o.started)
		close(o.done)
		return s.tell(c, o)
	}
	if in.Priority == nil {
		in.Priority = &reapi.Priority{}
	}
	t := &Task{Digest: *in.Action, Server: s}
	if lacks := s.lacks(t); len(lacks) > 0 {
		return s.refuse(lacks)
	}
	s.mu.Lock()
	o := s.running[in.Action.Hash]
	if o == nil {
		o = &operation{name: in.Action.Hash, done: make(chan struct{}), started: make(chan struct{})}
		s.running[o.name] = o
		t.Log = io.Discard
		if s.Live {
			o.log, o.writer = io.Pipe()
			t.Log = o.writer
		}
		go s.work(o, t, &in)
	}
	s.mu.Unlock()
	return s.tell(c, o)
}

// readLog gives what a worker writes while it writes it. One client may read it.
func (s *Server) readLog(c *grpc.Stream, name string) error {
	s.mu.Lock()
	o := s.running[name]
	s.mu.Unlock()
	if o == nil {
		return grpc.Errorf(grpc.NotFound, "no log %q", name)
	}
	buf := make([]byte, 1<<10)
	for {
		n, err := o.log.Read(buf)
		if n > 0 {
			if err := c.Send(reapi.ReadResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the worker has ended
		}
	}
}

// lacks is what an action needs and is not there.
func (s *Server) lacks(t *Task) (lacks []reapi.Digest) {
	if !s.Message(&t.Digest, &t.Action) {
		return []reapi.Digest{t.Digest}
	}
	if !s.Message(t.Action.Command, &t.Command) {
		lacks = append(lacks, *t.Action.Command)
	}
	var walk func(d *reapi.Digest)
	walk = func(d *reapi.Digest) {
		var dir reapi.Directory
		if !s.Message(d, &dir) {
			lacks = append(lacks, *d)
			return
		}
		for _, f := range dir.Files {
			if s.Blob(*f.Digest) == nil {
				lacks = append(lacks, *f.Digest)
			}
		}
		for _, sub := range dir.Directories {
			walk(sub.Digest)
		}
	}
	walk(t.Action.Input)
	return lacks
}

// refuse says what is lacking.
func (s *Server) refuse(lacks []reapi.Digest) error {
	if s.StrangeLack {
		return grpc.Errorf(grpc.NotFound, "blob %s not found", lacks[0])
	}
	f := reapi.PreconditionFailure{}
	for _, d := range lacks {
		f.Violations = append(f.Violations, reapi.Violation{Type: "MISSING", Subject: "blobs/" + d.String()})
	}
	value, err := s.codec.Marshal(f)
	if err != nil {
		return err
	}
	e := grpc.Errorf(grpc.FailedPrecondition, "content is missing")
	e.Details = []grpc.Detail{{Type: "type.googleapis.com/google.rpc.PreconditionFailure", Value: value}}
	return e
}

// work has a worker do an operation. It goes on when nobody listens.
func (s *Server) work(o *operation, t *Task, in *reapi.ExecuteRequest) {
	defer close(o.done)
	_ = s.slots.Wait(context.Background(), func() float64 { return -float64(in.Priority.Number) }) // which does not end
	defer s.slots.Leave()
	close(o.started)
	if o.writer != nil {
		defer o.writer.Close()
	}
	began := time.Now()
	ctx := context.Background()
	if d := t.Action.Timeout; d != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(d.Seconds)*time.Second+time.Duration(d.Nanos))
		defer cancel()
	}
	r, err := s.Execute(ctx, t)
	s.mu.Lock()
	delete(s.running, o.name)
	s.done++
	s.mu.Unlock()
	if err != nil {
		if ctx.Err() != nil {
			err = grpc.Errorf(grpc.DeadlineExceeded, "the action takes too long")
		}
		o.response.Status = grpc.StatusOf(err)
		return
	}
	if r.Metadata == nil {
		r.Metadata = &reapi.Metadata{Worker: "worker"}
	}
	r.Metadata.RunStart, r.Metadata.RunEnd = stamp(began), stamp(time.Now())
	r.Metadata.Completed = r.Metadata.RunEnd
	if r.ExitCode == 0 {
		s.mu.Lock()
		s.results[t.Digest] = r
		s.mu.Unlock()
	}
	o.response.Result = s.inlined(r, in.InlineFiles)
}

func stamp(t time.Time) *reapi.Timestamp {
	return &reapi.Timestamp{Seconds: t.Unix(), Nanos: int32(t.Nanosecond())}
}

// wait tells of an operation that goes on.
func (s *Server) wait(c *grpc.Stream) error {
	var in reapi.WaitRequest
	if err := c.Recv(&in); err != nil {
		return err
	}
	s.mu.Lock()
	o := s.running[in.Name]
	s.mu.Unlock()
	if o == nil {
		return grpc.Errorf(grpc.NotFound, "no operation %q", in.Name)
	}
	return s.tell(c, o)
}

// tell tells of an operation until it ends.
func (s *Server) tell(c *grpc.Stream, o *operation) error {
	say := func(stage reapi.Stage) error {
		p := reapi.Progress{Stage: stage}
		if o.log != nil {
			p.Stdout = "log/" + o.name
		}
		value, err := s.codec.Marshal(p)
		if err != nil {
			return err
		}
		return c.Send(reapi.Operation{
			Name: o.name, Metadata: &grpc.Detail{Type: "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteOperationMetadata", Value: value},
		})
	}
	if err := say(reapi.Queued); err != nil {
		return err
	}
	if s.Cut != nil && s.Cut(o.name) {
		return grpc.Errorf(grpc.Unavailable, "the connection is cut")
	}
	for _, next := range []struct {
		when  chan struct{}
		stage reapi.Stage
	}{{o.started, reapi.Executing}, {o.done, reapi.Completed}} {
		select {
		case <-next.when:
		case <-c.Context().Done():
			return c.Context().Err()
		}
		if next.stage == reapi.Executing {
			if err := say(next.stage); err != nil {
				return err
			}
		}
	}
	value, err := s.codec.Marshal(o.response)
	if err != nil {
		return err
	}
	return c.Send(reapi.Operation{
		Name: o.name, Done: true,
		Response: &grpc.Detail{Type: "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse", Value: value},
	})
}

// errKilled is what a worker says that was killed.
var errKilled = errors.New("the worker was killed")

// Kill is the error of a worker that is killed amid its work: servers say that they are not available.
func Kill() error { return grpc.Errorf(grpc.Unavailable, "%v", errKilled) }

// describe is for failures of the kit itself.
func describe(t *Task, err error) error {
	return fmt.Errorf("%v: %w", t.Command.Arguments, err)
}
