package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A directory holds a task for another machine: its file, and the tars of its layers, each under the hexadecimal digits of its
// digest. What comes of the task is written beside them.
const (
	TaskFile    = "job.json"
	TaskLayers  = "layers"
	OutcomeFile = "result.json"
	OutcomeTar  = "layer.tar"
)

// taskVersion changes when the same bytes begin to mean something else.
const taskVersion = 1

// maxTask is how large a task may be, in bytes.
const maxTask = 64 << 20

// A Task is a job as it travels. Its layers are tars, so that the same task is the same bytes whatever forms they have where it
// comes from.
type Task struct {
	Version  int             `json:"version"`
	Job      Job             `json:"job"`
	Settings json.RawMessage `json:"settings,omitempty"` // of the worker, for whoever does the task
}

// MarshalTask writes a task. Equal tasks are equal bytes.
func MarshalTask(job Job, settings json.RawMessage) ([]byte, error) {
	return json.Marshal(Task{Version: taskVersion, Job: job, Settings: settings})
}

// Resolving is a job that finds out what the n'th input of an operation comes to, which is read of layers, and does nothing.
func Resolving(op planner.Op, n int, layers []image.Layer) Job {
	job := Job{Op: op, Only: &n, Inputs: make([]source.Input, len(inputs(op)))}
	job.Reads = make([][]image.Layer, inputs(op)[n]+1)
	job.Reads[inputs(op)[n]] = layers
	return job
}

// Resolves is the input that a job finds out, and the layers that it is read of.
func (j *Job) Resolves() (n int, layers []image.Layer) {
	return *j.Only, j.Reads[inputs(j.Op)[*j.Only]]
}

// Stays says what a job needs that only the machine of its build has, or its caller can allow, so that it does not travel; "" if there is
// nothing.
func (j *Job) Stays() string {
	switch op := j.Op.(type) {
	case *planner.Copy:
		for _, s := range op.Sources {
			if s.URL != "" || s.Git != nil {
				return "it reads a URL"
			}
		}
	case *planner.Run:
		switch {
		case op.Insecure:
			return "--security=insecure is for this machine"
		case len(op.Devices) > 0:
			return "its devices are those of this machine"
		case op.Network == "host":
			return "its network is that of this machine"
		}
		for _, m := range op.Mounts {
			switch m.Type {
			case planner.Secret:
				return "it has a secret"
			case planner.SSH:
				return "it uses the keys of this machine"
			case planner.Cache:
				return "its cache mount is on this machine"
			}
		}
	}
	return ""
}

// ReadTask reads the task of a file. The file is not trusted.
func ReadTask(name string) (t Task, err error) {
	f, err := os.Open(name)
	if err != nil {
		return t, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTask+1))
	switch {
	case err != nil:
		return t, err
	case len(text) > maxTask:
		return t, fmt.Errorf("%s: a job has at most %d bytes", name, maxTask)
	}
	if err := t.parse(text); err != nil {
		return t, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func (t *Task) parse(text []byte) error {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return err
	}
	if version.Version != taskVersion {
		return fmt.Errorf("is a job of version %d, and this forge knows version %d: the worker and who sends the job need the same forge", version.Version, taskVersion)
	}
	if err := json.Unmarshal(text, t); err != nil {
		return err
	}
	if bytes.Equal(t.Settings, []byte("null")) {
		t.Settings = nil
	}
	if err := t.Job.check(); err != nil {
		return err
	}
	if why := t.Job.Stays(); why != "" && t.Job.Only == nil {
		return fmt.Errorf("the job is not for another machine than that of its build: %s", why)
	}
	for _, l := range t.Job.Layers() {
		if l.Blob.Digest != l.DiffID {
			return fmt.Errorf("layer %s: must be a tar without compression", l.DiffID)
		}
		if err := errors.Join(image.CheckDescriptor(l.Blob), image.CheckDigest(l.DiffID)); err != nil {
			return fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
	}
	return nil
}

// check refuses a job whose parts do not fit each other.
func (j *Job) check() error {
	switch op := j.Op.(type) {
	case *planner.Copy:
		for n, s := range op.Sources {
			one := s == planner.Source{Path: s.Path} || s == planner.Source{File: s.File} || s == planner.Source{URL: s.URL} || s == planner.Source{Git: s.Git}
			if !one || s == (planner.Source{}) {
				return fmt.Errorf("source %d of the job must be one thing", n)
			}
		}
	case *planner.Run:
		for n, m := range op.Mounts {
			if m.Type == planner.Bind && m.From == nil {
				return fmt.Errorf("mount %d of the job is a bind of nothing", n)
			}
		}
	}
	from := inputs(j.Op)
	if len(from) != len(j.Inputs) {
		return fmt.Errorf("the job reads %d things and says what %d of them came to", len(from), len(j.Inputs))
	}
	if j.Only != nil && (*j.Only < 0 || *j.Only >= len(from) || from[*j.Only] < 0) {
		return fmt.Errorf("the job is to find out what its input %d comes to, which is read of no layers", *j.Only)
	}
	for n, read := range from {
		if read >= len(j.Reads) && (j.Only == nil || *j.Only == n) {
			return fmt.Errorf("the job reads file system %d of %d", read, len(j.Reads))
		}
	}
	return nil
}

// Layers are all layers that a job needs, each once, in the order in which they are first named.
func (j *Job) Layers() (layers []image.Layer) {
	add := func(more ...image.Layer) {
		for _, l := range more {
			if !slices.ContainsFunc(layers, func(have image.Layer) bool { return have.DiffID == l.DiffID }) {
				layers = append(layers, l)
			}
		}
	}
	add(j.On...)
	for _, read := range j.Reads {
		add(read...)
	}
	for _, in := range j.Inputs {
		if in.Layer != nil {
			add(*in.Layer)
		}
	}
	return layers
}

// An Outcome is what came of a task: a layer, whose tar lies beside it, or why there is none.
type Outcome struct {
	Version  int           `json:"version"`
	Layer    *image.Layer  `json:"layer,omitempty"`
	Input    *source.Input `json:"input,omitempty"` // that a job which does nothing has found out
	Usage    *event.Usage  `json:"usage,omitempty"`
	Warnings []string      `json:"warnings,omitempty"` // such as of a sandbox that is weaker than asked for

	Exit   *ExitError `json:"exit,omitempty"` // the command ran and did not succeed
	Reason string     `json:"reason,omitempty"`
	Weaker string     `json:"weaker,omitempty"` // why it may succeed on another machine: this one has no other IDs, no network
	Error  string     `json:"error,omitempty"`  // why the worker could not do the job; it says nothing of the command
}

// Fail notes why there is no layer.
func (o *Outcome) Fail(err error) {
	exit, ok := errors.AsType[*ExitError](err)
	if !ok {
		o.Error = err.Error()
		return
	}
	o.Exit = &ExitError{Code: exit.Code, OOM: exit.OOM}
	if exit.Err != nil {
		o.Reason = exit.Err.Error()
	}
}

// ErrWeaker means that a command did not succeed on a worker that has less than others.
var ErrWeaker = errors.New("the command failed on a worker that has less than others")

// ErrWorker means that a worker could not do a job. Another may.
var ErrWorker = errors.New("the worker could not do the job")

// Result is the result of the job; an *[ExitError] if its command did not succeed.
func (o *Outcome) Result() (r Result, err error) {
	r.Usage = o.Usage
	const codes = 256 // of processes: another would be told as one of these, such as 256 as 0
	switch {
	case o.Exit != nil && (o.Exit.Code <= 0 || o.Exit.Code >= codes):
		return r, fmt.Errorf("%w: it says that the command has exited with %d", ErrWorker, o.Exit.Code)
	case o.Exit != nil:
		exit := *o.Exit
		if o.Reason != "" {
			exit.Err = errors.New(o.Reason)
		}
		return r, &exit
	case o.Error != "":
		return r, fmt.Errorf("%w: %s", ErrWorker, o.Error)
	case o.Layer == nil || o.Layer.Blob.Digest != o.Layer.DiffID:
		return r, fmt.Errorf("%w: it names no layer", ErrWorker)
	}
	if err := image.CheckDescriptor(o.Layer.Blob); err != nil {
		return r, fmt.Errorf("%w: %w", ErrWorker, err)
	}
	r.Layer = *o.Layer
	return r, nil
}

// ParseOutcome reads what a worker has written. It is not trusted.
func ParseOutcome(text []byte) (*Outcome, error) {
	o := &Outcome{}
	if err := json.Unmarshal(text, o); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrWorker, OutcomeFile, err)
	}
	if o.Version != taskVersion {
		return nil, fmt.Errorf("%w: %s has version %d, and this forge knows version %d", ErrWorker, OutcomeFile, o.Version, taskVersion)
	}
	return o, nil
}

// WriteOutcome writes what came of a task into its directory, and returns what it has written: a line.
func WriteOutcome(dir string, o Outcome) ([]byte, error) {
	o.Version = taskVersion
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	return text, os.WriteFile(filepath.Join(dir, OutcomeFile), text, 0o644)
}
