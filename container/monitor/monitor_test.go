package monitor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/container/logs"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/runtime"
)

// A fake is a process that does what the test says: run gets its streams, and a channel of the signals that it is sent.
type fake struct {
	signals chan os.Signal
	done    chan struct{}
	copies  *sync.WaitGroup
	exit    runtime.Exit
}

func (f *fake) Ref() (runtime.Ref, error)   { return runtime.Ref{Pid: 1}, nil }
func (f *fake) Resize(uint16, uint16) error { return nil }
func (f *fake) Gone() <-chan struct{}       { return f.done }
func (f *fake) Wait() (runtime.Exit, error) {
	<-f.done
	if f.copies != nil {
		f.copies.Wait()
	}
	return f.exit, nil
}

func (f *fake) Signal(sig os.Signal) error {
	select {
	case <-f.done:
		return os.ErrProcessDone
	case f.signals <- sig:
		return nil
	}
}

type kit struct {
	*testing.T
	Client
	dir string

	monitor *Monitor

	mu      sync.Mutex
	runs    []state.Run
	events  []string
	sizes   []Size // of the terminal, of each run at its start
	full    int    // so many records find a full disk
	gone    bool   // no record can be written any more
	wasFull bool
	exit    chan error
}

// start keeps a container whose process is run.
func start(t *testing.T, config Config, run func(io runtime.Stdio, signals <-chan os.Signal) int) *kit {
	return startWith(t, config, nil, nil, run)
}

// startWith is start with somebody who is attached from the beginning, and with what is still copied when the process is gone.
func startWith(t *testing.T, config Config, first *net.UnixConn, copies *sync.WaitGroup, run func(io runtime.Stdio, signals <-chan os.Signal) int) *kit {
	dir := t.TempDir()
	k := &kit{T: t, Client: Client{Dir: dir}, dir: dir, exit: make(chan error, 1)}
	config.Start = func(_ context.Context, io runtime.Stdio, _ *state.Run, size Size) (Process, error) {
		k.mu.Lock()
		k.sizes = append(k.sizes, size)
		k.mu.Unlock()
		f := &fake{signals: make(chan os.Signal), done: make(chan struct{}), copies: copies}
		go func() {
			f.exit.Code = run(io, f.signals)
			close(f.done)
		}()
		return f, nil
	}
	config.Record = func(r *state.Run) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.gone {
			k.wasFull = true
			return fs.ErrNotExist
		}
		if k.full > 0 {
			k.full, k.wasFull = k.full-1, true
			return &os.PathError{Op: "write", Path: "run", Err: syscall.ENOSPC}
		}
		k.runs = append(k.runs, *r)
		return nil
	}
	config.Event = func(action string, _ ...string) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.events = append(k.events, action)
		if n := len(k.runs) - 1; action == "die" && !k.wasFull && !k.runs[n].Finished.After(k.runs[n].Started) {
			t.Error("who hears that the container has ended finds one that runs")
		}
	}
	config.Freeze = func(runtime.Ref) error { return nil }
	config.Thaw = config.Freeze
	config.Done = func() {}
	if config.StopSignal == 0 {
		config.StopSignal = syscall.SIGTERM
	}
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	m := New(config, &state.Run{})
	k.monitor = m
	m.killTime = 100 * time.Millisecond
	if first != nil {
		m.First(first)
	}
	go func() {
		_, err := m.Keep(context.Background(), listener, func() { close(started) })
		k.exit <- err
	}()
	<-started
	return k
}

// last is how the run went, as it was written down last.
func (k *kit) last() state.Run {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.runs[len(k.runs)-1]
}

func (k *kit) ended() state.Run {
	k.Helper()
	if err := <-k.exit; err != nil {
		k.Error(err)
	}
	return k.last()
}

func untilTerm(_ runtime.Stdio, signals <-chan os.Signal) int {
	for sig := range signals {
		if sig == syscall.SIGTERM {
			return 3
		}
		if sig == syscall.SIGKILL {
			return 137
		}
	}
	return 0
}

// TestStop: a container that obeys ends with its own status, one that does not is killed, and who waits is told.
func TestStop(t *testing.T) {
	t.Parallel()
	k := start(t, Config{}, untilTerm)
	waited := make(chan int)
	go func() { code, _ := k.Wait(t.Context()); waited <- code }()
	for {
		if err := k.Signal(t.Context(), syscall.SIGHUP); err == nil {
			break
		}
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Fatal(err)
	}
	if run := k.ended(); run.ExitCode != 3 || !run.Stopped {
		t.Errorf("ended: %+v", run)
	}
	if code := <-waited; code != 3 && code != 0 { // 0: the request came when all was over
		t.Errorf("who waited was told %d", code)
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); !errors.Is(err, ErrGone) {
		t.Errorf("stopped again: %v", err)
	}

	removed := Client{Dir: filepath.Join(k.dir, "removed")}
	if err := removed.Stop(t.Context(), syscall.SIGTERM, 10); !errors.Is(err, ErrGone) {
		t.Errorf("stopped what is removed: %v", err)
	}

	k = start(t, Config{}, untilTerm)
	if err := k.Stop(t.Context(), syscall.SIGHUP, 0); err != nil {
		t.Fatal(err)
	}
	if run := k.ended(); run.ExitCode != 137 {
		t.Errorf("killed: %+v", run)
	}
}

// TestShutdown: a container that ends with the machine ends as one that is stopped, and only once, but nobody has stopped it.
func TestShutdown(t *testing.T) {
	t.Parallel()
	policy := func() Policy { return Policy{Name: "unless-stopped"} }
	k := start(t, Config{Policy: policy}, untilTerm)
	if err := k.Shutdown(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Fatal(err)
	}
	if run := k.ended(); run.ExitCode != 3 || run.Stopped || !run.Retry.IsZero() || !policy().AtBoot(&run) {
		t.Errorf("ended: %+v", run)
	}

	var runs atomic.Int32
	k = start(t, Config{Policy: policy}, func(runtime.Stdio, <-chan os.Signal) int { runs.Add(1); return 1 })
	for runs.Load() < 4 { // from here on the policy waits for the better part of a second
		_, _ = k.Wait(t.Context())
	}
	if err := k.Shutdown(t.Context(), syscall.SIGTERM, 10); err != nil && !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	if run := k.ended(); run.ExitCode != 1 || run.Stopped || !run.Retry.IsZero() {
		t.Errorf("ended between two runs: %+v", run)
	}
}

// TestDiskFull: a full disk does not decide whether a container is started again, and the end of the last run is written when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	config := Config{Policy: func() Policy { return Policy{Name: "on-failure"} }}
	var k *kit
	begun := make(chan struct{})
	k = start(t, config, func(_ runtime.Stdio, signals <-chan os.Signal) int {
		<-begun
		switch runs.Add(1) {
		case 1:
			k.mu.Lock()
			k.full = 4 // its end, the start of the next, that it failed, its end
			k.mu.Unlock()
			return 1
		case 2:
			<-signals // which it gets as its start cannot be written
			return 137
		case 3:
			for k.last().Restarts != 2 { // its start is written
				time.Sleep(time.Millisecond)
			}
			k.mu.Lock()
			k.full = 2
			k.mu.Unlock()
		}
		return 0
	})
	close(begun)
	if run := k.ended(); run.ExitCode != 0 || !run.Finished.After(run.Started) || run.Restarts != 2 || runs.Load() != 3 {
		t.Errorf("after %d runs: %+v", runs.Load(), run)
	}
}

// TestDirectoryGone: a container whose directory is gone is not started again, whatever its policy says.
func TestDirectoryGone(t *testing.T) {
	t.Parallel()
	var k *kit
	begun := make(chan struct{})
	k = start(t, Config{Policy: func() Policy { return Policy{Name: "always"} }}, func(runtime.Stdio, <-chan os.Signal) int {
		<-begun
		k.mu.Lock()
		k.gone = true
		k.mu.Unlock()
		return 1
	})
	close(begun)
	if run := k.ended(); len(k.sizes) != 1 {
		t.Errorf("started %d times: %+v", len(k.sizes), run)
	}
}

// TestStuck: who stops or kills a container that does not end even then is told so, and its end is seen when it comes.
func TestStuck(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	k := start(t, Config{Policy: func() Policy { return Policy{Name: "always"} }}, func(_ runtime.Stdio, signals <-chan os.Signal) int {
		for {
			select {
			case <-signals:
			case <-free:
				return 137
			}
		}
	})
	for what, do := range map[string]func() error{
		"stop":    func() error { return k.Stop(t.Context(), syscall.SIGTERM, 0) },
		"kill":    func() error { return k.Signal(t.Context(), syscall.SIGKILL) },
		"restart": func() error { return k.Restart(t.Context(), syscall.SIGTERM, 0) },
	} {
		if err := do(); err == nil || err.Error() != errAlive.Error() && what != "restart" {
			t.Errorf("%s: %v", what, err)
		}
	}
	close(free)
	if run := k.ended(); run.ExitCode != 137 || !run.Stopped {
		t.Errorf("at last: %+v", run)
	}
}

// TestAttach: all who are attached get all that is written, in order, and the exit status after it; what one of them types
// arrives; one that reads nothing is in nobody's way.
func TestAttach(t *testing.T) {
	t.Parallel()
	go1 := make(chan struct{})
	const lines = 3000 // of 1 KB: more than any queue
	k := start(t, Config{Stdin: true, StdinOnce: true}, func(io2 runtime.Stdio, _ <-chan os.Signal) int {
		typed, _ := io.ReadAll(io2.In)
		<-go1
		for range lines {
			_, _ = io2.Out.Write(bytes.Repeat([]byte{'x'}, 1023))
			_, _ = io2.Out.Write([]byte("\n"))
		}
		_, _ = io2.Err.Write(typed)
		return 7
	})
	dead, err := k.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	if err := request(dead, verbAttach, 0, 1, 1, 0, 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		var out, errs bytes.Buffer
		s := Streams{Out: &out, Err: &errs}
		if i == 0 {
			s.In = strings.NewReader("typed")
		}
		wg.Go(func() {
			code, err := k.Attach(t.Context(), s)
			if err != nil || code != 7 || out.Len() != lines<<10 || errs.String() != "typed" {
				t.Errorf("attached %d: %v, status %d, %d bytes, %q", i, err, code, out.Len(), errs.String())
			}
		})
	}
	for { // until all are attached
		k.mu.Lock()
		n := len(slices.DeleteFunc(slices.Clone(k.events), func(e string) bool { return e != "attach" }))
		k.mu.Unlock()
		if n == 4 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(go1)
	wg.Wait()
	k.ended()
}

// TestLeft: who says that he leaves, and is gone while the container writes, has left.
func TestLeft(t *testing.T) {
	t.Parallel()
	const times = 50
	left := make(chan bool, times)
	k := start(t, Config{Left: func(said bool) { left <- said }}, func(io2 runtime.Stdio, signals <-chan os.Signal) int {
		for {
			select {
			case <-signals:
				return 0
			default:
				_, _ = io2.Out.Write([]byte("x\n"))
			}
		}
	})
	for range times {
		c, err := k.dial()
		if err != nil {
			t.Fatal(err)
		}
		if err := request(c, verbAttach, 0, 1, 1, 0, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, len("ok\n"))); err != nil {
			t.Fatal(err)
		}
		if err := writeFrame(c, frame{stream: streamLeft}); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if !<-left {
			t.Error("it was not heard that somebody leaves")
			break
		}
	}
	if err := k.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	k.ended()
}

// connPair is a connection, and its other end.
func connPair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		conns[i], _ = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// TestFirst: who is attached from the beginning misses nothing, however slow, and can detach.
func TestFirst(t *testing.T) {
	t.Parallel()
	m := New(Config{Event: func(string, ...string) {}}, &state.Run{})
	ours, theirs := connPair(t)
	got := make(chan int, 1)
	slow := writerFunc(func(p []byte) (int, error) { time.Sleep(time.Microsecond); return len(p), nil })
	count := 0
	go func() {
		_, _ = Attach(t.Context(), ours, Streams{Out: writerFunc(func(p []byte) (int, error) { count += len(p); return slow(p) })})
		got <- count
	}()
	m.First(theirs)
	w := m.fan.writer(1)
	for range 5000 {
		_, _ = w.Write(make([]byte, 1<<10))
	}
	m.fan.end(0)
	if n := <-got; n != 5000<<10 {
		t.Errorf("got %d bytes of %d", n, 5000<<10)
	}
}

// TestFirstSize: who is attached from the beginning says how large the terminal is that the process begins with.
func TestFirstSize(t *testing.T) {
	t.Parallel()
	ours, theirs := connPair(t)
	if err := request(ours, verbAttach, 0, 1, 1, 30, 100); err != nil {
		t.Fatal(err)
	}
	k := startWith(t, Config{Terminal: true, Size: Size{11, 22}}, theirs, nil, func(runtime.Stdio, <-chan os.Signal) int { return 0 })
	k.ended()
	if !slices.Equal(k.sizes, []Size{{30, 100}}) {
		t.Errorf("the terminal begins with %v, want 30 100", k.sizes)
	}
}

// TestFirstStuck: who is attached from the beginning and takes nothing delays the container, but not its end; and gets all at last.
func TestFirstStuck(t *testing.T) {
	t.Parallel()
	const bytes = 4 << 20
	ours, theirs := connPair(t)
	if err := request(ours, verbAttach, 0, 1, 1, 0, 0); err != nil {
		t.Fatal(err)
	}
	var copies sync.WaitGroup
	written := make(chan int, bytes>>10)
	k := startWith(t, Config{}, theirs, &copies, func(s runtime.Stdio, signals <-chan os.Signal) int {
		copies.Go(func() {
			for range bytes >> 10 {
				n, _ := s.Out.Write(make([]byte, 1<<10))
				written <- n
			}
		})
		return untilTerm(s, signals)
	})
	for range 1 << 10 { // as much as may wait
		<-written
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Fatal(err)
	}
	if run := k.ended(); run.ExitCode != 3 {
		t.Errorf("ended: %+v", run)
	}
	if _, err := k.Attach(t.Context(), Streams{Out: io.Discard}); !errors.Is(err, ErrGone) {
		t.Errorf("attached to what has ended: %v", err)
	}
	in := bufio.NewReader(ours)
	if _, err := answered(in); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code, err := readFrames(in, Streams{Out: &out}); err != nil || code != 3 || out.Len() != bytes {
		t.Errorf("read at last: status %d, %v, %d bytes", code, err, out.Len())
	}
}

// TestSignalGone: a signal to a process whose end is not written down yet is none too many.
func TestSignalGone(t *testing.T) {
	t.Parallel()
	var copies sync.WaitGroup
	copies.Add(1) // the end is not seen before
	quit := make(chan struct{})
	k := startWith(t, Config{}, nil, &copies, func(runtime.Stdio, <-chan os.Signal) int {
		<-quit
		return 0
	})
	close(quit)
	if err := k.Signal(t.Context(), syscall.SIGHUP); err != nil {
		t.Errorf("signal: %v", err)
	}
	killed := make(chan error)
	go func() { killed <- k.Signal(t.Context(), syscall.SIGKILL) }()
	time.Sleep(10 * time.Millisecond)
	copies.Done()
	if err := <-killed; err != nil && !errors.Is(err, ErrGone) {
		t.Errorf("kill: %v", err)
	}
	k.ended()
}

// TestBackpressure: the container waits for who was there from the beginning and does not read; a queue is all that is kept.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	s := newSubscriber(func(frame) error { <-read; return nil })
	go s.run()
	s.patient, s.streams[1] = true, true
	f := newFan(nil)
	f.add(s)
	const chunks = 40
	written := make(chan int, chunks+1)
	go func() {
		for i := range chunks {
			_, _ = f.writer(1).Write(make([]byte, maxQueue/10))
			written <- i
		}
		close(written)
	}()
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.bytes
	}
	for waiting() <= maxQueue && len(written) < chunks {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // one that does not wait has written all by then
	if n := waiting(); n > 2*maxQueue || len(written) == chunks {
		t.Errorf("%d bytes of %d chunks wait for the reader, and %d may", n, len(written), maxQueue)
	}
	close(read)
	for range written { // all is written once there is a reader
	}
	f.end(0)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestRestart: the policy restarts a container, counts, and rests when a user stops it.
func TestRestart(t *testing.T) {
	t.Parallel()
	k := start(t, Config{Policy: func() Policy { return Policy{Name: "on-failure", Max: 2} }}, func(runtime.Stdio, <-chan os.Signal) int { return 1 })
	if run := k.ended(); run.Restarts != 2 || run.ExitCode != 1 || !run.Retry.IsZero() {
		t.Errorf("on-failure:2 ended: %+v", run)
	}
	k = start(t, Config{Policy: func() Policy { return Policy{Name: "on-failure"} }}, func(runtime.Stdio, <-chan os.Signal) int { return 0 })
	if run := k.ended(); run.Restarts != 0 {
		t.Errorf("on-failure, without a failure: restarted %d times", run.Restarts)
	}
	k = start(t, Config{Policy: func() Policy { return Policy{Name: "always"} }}, func(runtime.Stdio, <-chan os.Signal) int { return 0 })
	for k.last().Restarts < 1 {
		time.Sleep(time.Millisecond)
	}
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil && !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	if run := k.ended(); !run.Stopped || !run.Retry.IsZero() {
		t.Errorf("stopped while it was restarted: %+v", run)
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "no": "", "always": "", "unless-stopped": "", "on-failure": "", "on-failure:3": "",
		"on-failure:-1": "cannot be negative", "on-failure:x": "must be an integer", "always:1": "can only be used with 'on-failure'",
		":1": "no policy provided before colon", "sometimes": "unknown policy 'sometimes'",
	} {
		_, err := ParsePolicy(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePolicy(%q) = %v, want %q", text, err, want)
		}
	}
}

func TestParseSignal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"TERM": 15, "SIGTERM": 15, "sigkill": 9, "9": 9, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "64": 64,
		"": 0, "0": 0, "65": 0, "SIGNOPE": 0, "RTMIN+99": 0, "RTMAX+1": 0, "-9": 0,
	} {
		got, err := ParseSignal(text)
		if int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}

// TestHealth: a container becomes healthy or unhealthy as its checks say.
func TestHealth(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	code := 0
	probe := func(context.Context, *state.Run) (int, []byte, error) {
		mu.Lock()
		defer mu.Unlock()
		return code, []byte("said"), nil
	}
	k := start(t, Config{
		Health: HealthCheck{Interval: time.Millisecond, Timeout: time.Second, Retries: 2, StartInterval: time.Millisecond}, Probe: probe,
	}, untilTerm)
	until := func(want string) {
		t.Helper()
		for k.last().Health == nil || k.last().Health.Status != want {
			time.Sleep(time.Millisecond)
		}
	}
	until("healthy")
	mu.Lock()
	code = 1
	mu.Unlock()
	until("unhealthy")
	if h := k.last().Health; h.FailingStreak < 2 || len(h.Log) > 5 || h.Log[0].Output != "said" {
		t.Errorf("health %+v", h)
	}
	mu.Lock()
	code = 0
	mu.Unlock()
	until("healthy")
	if err := k.Stop(t.Context(), syscall.SIGTERM, 10); err != nil {
		t.Fatal(err)
	}
	k.ended()
}

// TestHealthAtEnd: a check that is killed with the container says nothing of it.
func TestHealthAtEnd(t *testing.T) {
	t.Parallel()
	killed := make(chan struct{})
	var once sync.Once
	k := start(t, Config{
		Health: HealthCheck{Interval: time.Millisecond, Timeout: time.Second, Retries: 1},
		Probe: func(context.Context, *state.Run) (int, []byte, error) {
			once.Do(func() { close(killed) })
			return 137, nil, nil
		},
	}, func(runtime.Stdio, <-chan os.Signal) int {
		<-killed
		time.Sleep(10 * time.Millisecond)
		return 137
	})
	k.ended()
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.events, "health_status: unhealthy") {
		t.Errorf("events %q", k.events)
	}
}

// TestLog: the log has what was written, also without an end of the line.
func TestLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	log, err := logs.Open(path, logs.Config{MaxFiles: 1})
	if err != nil {
		t.Fatal(err)
	}
	k := start(t, Config{Log: log}, func(s runtime.Stdio, _ <-chan os.Signal) int {
		_, _ = s.Out.Write([]byte("one\ntwo"))
		return 0
	})
	k.ended()
	log.Close()
	var out bytes.Buffer
	if err := logs.Read(t.Context(), path, logs.Options{Tail: -1}, &out, nil); err != nil || out.String() != "one\ntwo" {
		t.Errorf("the log has %q, %v", out.String(), err)
	}
}
