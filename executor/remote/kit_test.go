package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// A machine is this machine: a worker that counts its jobs, and layers in a directory.
type machine struct {
	dir string

	mu       sync.Mutex // guards all below
	layers   map[digest.Digest]bool
	did      int
	warnings []string
	progress []string
}

func newMachine(t testing.TB) *machine {
	return &machine{dir: t.TempDir(), layers: map[digest.Digest]bool{}}
}

// layer makes a layer of this machine.
func (m *machine) layer(t testing.TB, content string) image.Layer {
	t.Helper()
	l := tarWith(content)
	if err := os.WriteFile(filepath.Join(m.dir, l.DiffID.Encoded()), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layers[l.DiffID] = true
	return l
}

// tarWith describes a layer of some bytes, which need be no tar here.
func tarWith(content string) image.Layer {
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(content), Size: int64(len(content))}
	return image.Layer{Blob: d, DiffID: d.Digest}
}

func (m *machine) HaveLayer(_ context.Context, l image.Layer) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layers[l.DiffID], nil
}

func (m *machine) OpenTar(_ context.Context, l image.Layer) (*os.File, error) {
	return os.Open(filepath.Join(m.dir, l.DiffID.Encoded()))
}

func (m *machine) Pack(context.Context, planner.Op, int, *time.Time) (image.Layer, error) {
	return image.Layer{}, errors.New("there is no context")
}

// Do does a job here. The layer is the same as elsewhere.
func (m *machine) Do(_ context.Context, job executor.Job, _ io.Writer) (executor.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did++
	text, err := content(job)
	l := tarWith(text)
	m.layers[l.DiffID] = true
	return executor.Result{Layer: l}, errors.Join(err, os.WriteFile(filepath.Join(m.dir, l.DiffID.Encoded()), []byte(text), 0o600))
}

func (m *machine) event(e event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Kind {
	case event.Warning:
		m.warnings = append(m.warnings, e.Text)
	case event.Progress:
		m.progress = append(m.progress, e.Text)
	}
}

// content is what a job makes, wherever it is done.
func content(job executor.Job) (string, error) {
	h, err := job.Key()
	if err != nil {
		return "", err
	}
	return "layer of " + h.Key().String(), nil
}

// worker is a worker with a server. The program of this machine is small, so that it is not what takes the time.
func (m *machine) worker(t testing.TB, client *reapi.Client, policy Policy) *Worker {
	t.Helper()
	program := filepath.Join(m.dir, "program")
	if err := os.WriteFile(program, []byte("forge"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Worker{
		Cluster: New(client, Options{Policy: policy, Program: program, Events: m.event}),
		Local:   m, Inputs: m, Layers: m, Fetch: func(context.Context, []image.Layer) error { return nil },
	}
}

// pretend is what workers do that only seem to work, for a time that the job's command says.
func pretend(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
	task, err := taskOf(t)
	if err != nil {
		return nil, err
	}
	op := task.Job.Op.(*planner.Run)
	for _, arg := range op.Args {
		if text, ok := strings.CutPrefix(arg, "sleep="); ok {
			d, err := time.ParseDuration(text)
			if err != nil {
				return nil, err
			}
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	text, err := content(task.Job)
	if err != nil {
		return nil, err
	}
	l := tarWith(text)
	return answer(t, text, executor.Outcome{Version: 1, Layer: &l}, 0)
}

// taskOf reads the job of an action.
func taskOf(t *reapitest.Task) (task executor.Task, err error) {
	var root reapi.Directory
	if !t.Server.Message(t.Action.Input, &root) {
		return task, errors.New("no input")
	}
	for _, f := range root.Files {
		if f.Name == executor.TaskFile {
			err = json.Unmarshal(t.Server.Blob(*f.Digest), &task)
		}
	}
	if err == nil && task.Job.Op == nil {
		err = fmt.Errorf("no job in %+v", root)
	}
	return task, err
}

// answer is a result with a layer and an outcome.
func answer(t *reapitest.Task, tar string, out executor.Outcome, code int) (*reapi.ActionResult, error) {
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	layer, outcome := t.Server.Put([]byte(tar)), t.Server.Put(text)
	return &reapi.ActionResult{
		ExitCode: int32(code), Stdout: []byte("printed\n"),
		Files: []reapi.OutputFile{{Path: executor.OutcomeTar, Digest: &layer}, {Path: executor.OutcomeFile, Digest: &outcome}},
	}, nil
}

// run is the operation of a RUN without a network.
func run(args ...string) *planner.Run {
	return &planner.Run{Args: args, Network: "none", Dir: "/", Platform: platform()}
}

// memory is a cache that remembers how long steps have taken, and nothing else.
type memory map[string]time.Duration

func (memory) Get(context.Context, cache.Key) (cache.Entry, bool, error) {
	return cache.Entry{}, false, nil
}
func (memory) Put(context.Context, cache.Key, cache.Entry) error { return nil }
func (m memory) Nearest(_ context.Context, name string, _ []cache.Field) (cache.Entry, bool, error) {
	took, ok := m[name]
	return cache.Entry{Name: name, Duration: took}, ok, nil
}
func (memory) Absent(cache.Key, string) []string { return nil }

// nothing resolves inputs of which there are none.
type nothing struct{}

func (nothing) Resolve(context.Context, planner.Op, int, []image.Layer) (source.Input, error) {
	return source.Input{}, nil
}
