package remote

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
	"github.com/forge-build/forge/planner"
)

func dial(t *testing.T, s *reapitest.Server) *reapi.Client {
	t.Helper()
	c, err := reapi.Dial(s.Start(t), reapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestChoose holds which jobs are done elsewhere.
func TestChoose(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	secret := run("x")
	secret.Mounts = []planner.Mount{{Type: planner.Secret, ID: "s"}}
	ssh := run("x")
	ssh.Mounts = []planner.Mount{{Type: planner.SSH}}
	caches := run("x")
	caches.Mounts = []planner.Mount{{Type: planner.Cache, ID: "c"}}
	insecure, device, network, host, foreign := run("x"), run("x"), run("x"), run("x"), run("x")
	insecure.Insecure = true
	device.Devices = []planner.Device{{Name: "d"}}
	network.Network, host.Network, foreign.Platform = "default", "host", "linux/riscv64"
	for _, test := range []struct {
		name   string
		policy Policy
		op     planner.Op
		took   time.Duration
		away   bool
	}{
		{"unknown", Auto, run("x"), 0, true},
		{"short", Auto, run("x"), time.Second, false},
		{"long", Auto, run("x"), time.Minute, true},
		{"short, but only", Only, run("x"), time.Second, true},
		{"secret", Only, secret, 0, false},
		{"ssh", Only, ssh, 0, false},
		{"cache mount", Only, caches, 0, false},
		{"insecure", Only, insecure, 0, false},
		{"device", Only, device, 0, false},
		{"network", Only, network, 0, false},
		{"network of the host", Only, host, 0, false},
		{"another platform", Only, foreign, 0, false},
		{"WORKDIR", Only, &planner.Mkdir{Path: "/x"}, 0, false},
	} {
		w := m.worker(t, nil, test.policy)
		job := executor.Job{Op: test.op, Hints: executor.Hints{Took: func() time.Duration { return test.took }}}
		if away, why, err := w.choose(t.Context(), &job); err != nil || away != test.away || !away && why == "" && test.name != "WORKDIR" {
			t.Errorf("%s: away %v, %q, %v", test.name, away, why, err)
		}
	}
	w := m.worker(t, nil, Auto)
	w.Cluster.options.Network = map[string]string{}
	if away, why, err := w.choose(t.Context(), &executor.Job{Op: network}); !away || err != nil {
		t.Errorf("a network that is named: %s, %v", why, err)
	}
}

// TestDo holds that a job is done elsewhere once, and then known; that its layer does not come here; and what is shown.
func TestDo(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: pretend}
	client, m := dial(t, s), newMachine(t)
	job := executor.Job{On: []image.Layer{m.layer(t, "base")}, Op: run("x"), Hints: executor.Hints{Step: &event.Step{Number: 3}}}
	var log strings.Builder
	w := m.worker(t, client, Auto)
	r, err := w.Do(t.Context(), job, &log)
	text, _ := content(job)
	if err != nil || r.Known || r.Layer.DiffID != tarWith(text).DiffID || log.String() != "printed\n" || !strings.Contains(r.Place, "worker") {
		t.Fatalf("%+v, %v, log %q", r, err, log.String())
	}
	if !w.Cluster.Made(r.Layer) || s.Read() != 0 || m.did != 0 {
		t.Errorf("the layer was brought here: %d bytes; jobs here: %d", s.Read(), m.did)
	}
	if !slices.ContainsFunc(m.progress, func(p string) bool { return strings.Contains(p, "queued") }) ||
		!slices.ContainsFunc(m.progress, func(p string) bool { return strings.Contains(p, "executing") }) {
		t.Errorf("shown: %q", m.progress)
	}
	before := s.Calls("")
	other := m.worker(t, client, Auto)
	if r, err = other.Do(t.Context(), job, &log); err != nil || !r.Known || r.Made.IsZero() || s.Executed() != 1 {
		t.Errorf("the second time: %+v, %v, executed %d times", r, err, s.Executed())
	}
	if n := s.Calls("") - before; n > 2 {
		t.Errorf("an answer of the action cache took %d calls", n)
	}
	job.Hints.Again = true
	if r, err = other.Do(t.Context(), job, &log); err != nil || r.Known || s.Executed() != 2 {
		t.Errorf("once more: %+v, %v, executed %d times", r, err, s.Executed())
	}
	next := executor.Job{On: append(slices.Clone(job.On), r.Layer), Op: run("y")}
	if r, err = other.Do(t.Context(), next, &log); err != nil || s.Read() != 0 {
		t.Errorf("what stands on it: %+v, %v, %d bytes came here", r, err, s.Read())
	}
}

// TestFaults holds that trouble of a server ends no build, and changes nothing of what it makes.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault func(s *reapitest.Server)
		here  int    // jobs that are done here
		warns string // is in the only warning; "" is none
	}{
		{"a worker dies", func(s *reapitest.Server) {
			var died atomic.Bool
			s.Execute = func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
				if died.CompareAndSwap(false, true) {
					return nil, reapitest.Kill()
				}
				return pretend(ctx, t)
			}
		}, 0, ""},
		{"the stream is cut", func(s *reapitest.Server) {
			var cut atomic.Bool
			s.Cut = func(string) bool { return cut.CompareAndSwap(false, true) }
		}, 0, ""},
		{"content is evicted", func(s *reapitest.Server) { evictOnce(s) }, 0, ""},
		{"content is evicted, and told in other words", func(s *reapitest.Server) { evictOnce(s); s.StrangeLack = true }, 0, ""},
		{"files do not come along", func(s *reapitest.Server) { s.NoInline = true }, 0, ""},
		{"another layer than it says", func(s *reapitest.Server) {
			s.Execute = func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
				l := tarWith("what it says")
				return answer(t, "what it gives", executor.Outcome{Version: 1, Layer: &l}, 0)
			}
		}, 1, tarWith("what it gives").DiffID.String()},
		{"a worker that cannot", func(s *reapitest.Server) {
			s.Execute = func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
				return answer(t, "", executor.Outcome{Version: 1, Error: "no user namespaces"}, 1)
			}
		}, 1, "no user namespaces"},
		{"a worker of another version", func(s *reapitest.Server) {
			s.Execute = func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
				return answer(t, "", executor.Outcome{Version: 99}, 0)
			}
		}, 1, "version 99"},
		{"no program", func(s *reapitest.Server) {
			s.Execute = func(context.Context, *reapitest.Task) (*reapi.ActionResult, error) {
				return &reapi.ActionResult{ExitCode: 126, Stderr: []byte("cannot execute")}, nil
			}
		}, 1, "cannot execute"},
		{"it executes nothing", func(s *reapitest.Server) { s.Execute = nil }, 1, "executes nothing"},
		{"it refuses", func(s *reapitest.Server) {
			s.Fault = func(string) error { return grpc.Errorf(grpc.Unauthenticated, "who are you") }
		}, 1, "who are you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &reapitest.Server{Execute: pretend}
			test.fault(s)
			client, m := dial(t, s), newMachine(t)
			job := executor.Job{On: []image.Layer{m.layer(t, "base")}, Op: run("x")}
			var log strings.Builder
			r, err := m.worker(t, client, Auto).Do(t.Context(), job, &log)
			text, _ := content(job)
			if err != nil || r.Layer.DiffID != tarWith(text).DiffID || m.did != test.here {
				t.Errorf("%+v, %v, done here %d", r, err, m.did)
			}
			if test.warns == "" && len(m.warnings) > 0 || test.warns != "" && (len(m.warnings) != 1 || !strings.Contains(m.warnings[0], test.warns)) {
				t.Errorf("warnings %q, want %q", m.warnings, test.warns)
			}
			_, err = m.worker(t, client, Only).Do(t.Context(), executor.Job{On: job.On, Op: run("y")}, &log)
			if (err != nil) != (test.here > 0) || err != nil && !strings.Contains(err.Error(), "--remote-policy auto") {
				t.Errorf("only: %v", err)
			}
		})
	}
}

// evictOnce has a server lose what an action needs, just before it is to be executed.
func evictOnce(s *reapitest.Server) {
	var lost atomic.Bool
	s.Fault = func(method string) error {
		if method == "Execute" && lost.CompareAndSwap(false, true) {
			base := tarWith("base").DiffID.Encoded()
			s.Evict(func(d reapi.Digest) bool { return d.Hash == base })
		}
		return nil
	}
}

// TestCommandFails holds that a command that does not succeed is no trouble of the server.
func TestCommandFails(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		return answer(t, "", executor.Outcome{Version: 1, Exit: &executor.ExitError{Code: 7}, Reason: "because"}, 7)
	}}
	client, m := dial(t, s), newMachine(t)
	var log strings.Builder
	_, err := m.worker(t, client, Auto).Do(t.Context(), executor.Job{Op: run("x")}, &log)
	if exit, ok := errors.AsType[*executor.ExitError](err); !ok || exit.Code != 7 || m.did != 0 || log.String() != "printed\n" || len(m.warnings) > 0 {
		t.Errorf("%v, log %q, done here %d, warnings %q", err, log.String(), m.did, m.warnings)
	}
	if len(s.Results()) != 0 {
		t.Error("the failure is remembered")
	}
	s = &reapitest.Server{Execute: func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) { // which this machine may not share
		return answer(t, "", executor.Outcome{Version: 1, Exit: &executor.ExitError{Code: 1}, Weaker: "there is one ID"}, 1)
	}}
	w := m.worker(t, dial(t, s), Auto)
	if _, err = w.Do(t.Context(), executor.Job{Op: run("x")}, &log); err != nil || m.did != 1 || w.Cluster.Down() != nil {
		t.Errorf("on a weaker worker: %v, done here %d, %v", err, m.did, w.Cluster.Down())
	}
	s = &reapitest.Server{Execute: func(context.Context, *reapitest.Task) (*reapi.ActionResult, error) { // which keeps no files of it
		return &reapi.ActionResult{ExitCode: 7, Stderr: []byte("forge: exit code 7\n{\"version\":1,\"exit\":{\"code\":7}}\n")}, nil
	}}
	_, err = m.worker(t, dial(t, s), Auto).Do(t.Context(), executor.Job{Op: run("x")}, &log)
	if exit, ok := errors.AsType[*executor.ExitError](err); !ok || exit.Code != 7 || m.did != 1 {
		t.Errorf("without files: %v, done here %d", err, m.did)
	}
}

// TestLongLog holds that a command that prints more than is shown is no trouble of the server.
func TestLongLog(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		r, err := pretend(ctx, t)
		if err == nil { // a server that gives less of it than it says makes the test short
			r.Stdout, r.StdoutDigest = nil, &reapi.Digest{Hash: reapi.DigestOf([]byte("much")).Hash, Size: maxLog + 1}
			t.Server.Set(*r.StdoutDigest, []byte("much"))
		}
		return r, err
	}}
	client, m := dial(t, s), newMachine(t)
	var log strings.Builder
	w := m.worker(t, client, Only)
	if _, err := w.Do(t.Context(), executor.Job{Op: run("x")}, &log); err != nil || log.String() != "much" || w.Cluster.Down() != nil {
		t.Errorf("%v, log %q, %v", err, log.String(), w.Cluster.Down())
	}
	if len(m.warnings) != 1 || !strings.Contains(m.warnings[0], "has printed 67.11MB") {
		t.Errorf("warnings %q", m.warnings)
	}
}

// TestLive holds that what a command prints is shown while it prints it, and once, where the server streams it.
func TestLive(t *testing.T) {
	t.Parallel()
	heard := make(chan struct{})
	s := &reapitest.Server{Live: true, Execute: func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		if _, err := io.WriteString(t.Log, "prin"); err != nil {
			return nil, err
		}
		<-heard // it has not ended when that is shown
		return pretend(ctx, t)
	}}
	client, m := dial(t, s), newMachine(t)
	log := &listener{word: "prin", heard: heard}
	if _, err := m.worker(t, client, Auto).Do(t.Context(), executor.Job{Op: run("x")}, log); err != nil || log.String() != "printed\n" {
		t.Errorf("%v, log %q", err, log.String())
	}
}

// A listener closes heard when it hears a word.
type listener struct {
	strings.Builder
	word  string
	heard chan struct{}
}

func (l *listener) Write(p []byte) (int, error) {
	n, err := l.Builder.Write(p)
	if l.String() == l.word {
		close(l.heard)
	}
	return n, err
}

// TestGone holds that a result whose layer is gone is none, and that a layer which an action needs and nobody has is named.
func TestGone(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: pretend}
	client, m := dial(t, s), newMachine(t)
	job := executor.Job{Op: run("x")}
	var log strings.Builder
	w := m.worker(t, client, Auto)
	r, err := w.Do(t.Context(), job, &log)
	if err != nil {
		t.Fatal(err)
	}
	gone := digestOf(r.Layer)
	s.Evict(func(d reapi.Digest) bool { return d == gone })
	client.Forget(gone)
	_, err = w.Do(t.Context(), executor.Job{On: []image.Layer{r.Layer}, Op: run("y")}, &log)
	lost, ok := errors.AsType[*remote.LostError](err)
	if !ok || lost.Layer.DiffID != r.Layer.DiffID {
		t.Fatalf("without the layer: %v", err)
	}
	w.Cluster.Forget(lost.Layer, lost.Err)
	if r, err = w.Do(t.Context(), job, &log); err != nil || r.Known || s.Executed() != 2 {
		t.Errorf("again: %+v, %v, executed %d times", r, err, s.Executed())
	}
}

// TestTamper holds that a layer that was found to be something else is made again, and if it still is, here.
func TestTamper(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: pretend}
	client, m := dial(t, s), newMachine(t)
	job := executor.Job{Op: run("x")}
	var log strings.Builder
	w := m.worker(t, client, Auto)
	for i, want := range []int{1, 2, 3} {
		r, err := w.Do(t.Context(), job, &log)
		if err != nil || s.Executed() != want {
			t.Fatalf("%d: %v, executed %d times", i, err, s.Executed())
		}
		w.Cluster.Forget(r.Layer, errors.New("is something else"))
	}
	if m.did != 1 || w.Cluster.Down() == nil {
		t.Errorf("done here %d times, %v", m.did, w.Cluster.Down())
	}
}

// TestLies holds that what a server or a worker says wrongly does no harm: codes that would be told as success, times and sizes that make no
// sense, floods of warnings, and what would do something to a terminal.
func TestLies(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		return answer(t, "", executor.Outcome{Version: 1, Exit: &executor.ExitError{Code: 256}}, 1)
	}}
	m := newMachine(t)
	var log strings.Builder
	if _, err := m.worker(t, dial(t, s), Only).Do(t.Context(), executor.Job{Op: run("x")}, &log); !errors.Is(err, executor.ErrWorker) {
		t.Errorf("exit code 256: %v", err)
	}
	s = &reapitest.Server{Execute: func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		task, err := taskOf(t)
		if err != nil {
			return nil, err
		}
		text, err := content(task.Job)
		if err != nil {
			return nil, err
		}
		l := tarWith(text)
		out := executor.Outcome{Version: 1, Layer: &l, Warnings: slices.Repeat([]string{"\x1b[2Jboo" + strings.Repeat("o", 1<<12)}, 100)}
		r, err := answer(t, text, out, 0)
		r.Metadata = &reapi.Metadata{Worker: "w\x1b[31m"}
		return r, err
	}}
	client := dial(t, s)
	r, err := m.worker(t, client, Only).Do(t.Context(), executor.Job{Op: run("x")}, &log)
	if said := strings.Join(m.warnings, ""); err != nil || len(said) > 100<<10 || strings.Contains(said+r.Place, "\x1b") {
		t.Errorf("%v, place %q, %d bytes of warnings", err, r.Place, len(said))
	}
	for _, action := range s.Results() {
		far := &reapi.Timestamp{Seconds: 1 << 50, Nanos: -1}
		s.Result(action).Metadata = &reapi.Metadata{Completed: far, RunStart: far, RunEnd: &reapi.Timestamp{Seconds: 1}}
	}
	if r, err = m.worker(t, client, Only).Do(t.Context(), executor.Job{Op: run("x")}, &log); err != nil || !r.Known || !r.Made.IsZero() || r.Took < 0 {
		t.Errorf("%v, known %v, made %s, took %s", err, r.Known, r.Made, r.Took)
	}
	s.Execute = pretend
	base := compressed("base")
	w := m.worker(t, client, Only)
	w.Fetch = fetcher(t, m, "base", new(atomic.Int32))
	w.Cluster.tell(t.Context(), reapi.Digest{Hash: base.DiffID.Encoded(), Size: 1 << 60})
	if _, err := w.Do(t.Context(), executor.Job{On: []image.Layer{base}, Op: run("y")}, &log); err == nil || !strings.Contains(err.Error(), "has 4 bytes") {
		t.Errorf("a size that is wrong: %v", err)
	}
}
