// Package monitor keeps a container company: it holds its standard streams, writes its log, serves those who attach to it,
// ends and restarts it, checks its health and writes down what becomes of it. There is one monitor for each container, a
// process of its own or part of a "forge run" that waits for the end. No other process is needed.
//
// Others reach it over a socket in the container's directory: see protocol.go.
package monitor

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/logs"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/runtime"
)

// A Process is the container's first process, as *runtime.Process is.
type Process interface {
	Ref() (runtime.Ref, error)
	Signal(sig os.Signal) error
	Resize(rows, cols uint16) error
	// Gone is closed when all that could write is gone, so that only what is in the pipes is still to come.
	Gone() <-chan struct{}
	Wait() (runtime.Exit, error)
}

// Config says how to keep a container.
type Config struct {
	// Start prepares and starts the container. What it fills in of the run is written down. Its terminal has a size from the beginning, so
	// that its first process sees no other; zero is not known.
	Start func(ctx context.Context, io runtime.Stdio, run *state.Run, size Size) (Process, error)
	// Record writes how the run goes.
	Record func(*state.Run) error
	// Event tells that something has happened to the container, such as "die"; attributes come in pairs.
	Event func(action string, attributes ...string)
	// Freeze stops all that runs in the container, Thaw lets it go on.
	Freeze, Thaw func(runtime.Ref) error
	// Probe runs the health check once, within its time.
	Probe func(ctx context.Context, run *state.Run) (exitCode int, output []byte, err error)
	// Call does something for somebody who asks for it by name while the container runs; it may change the run.
	Call func(run *state.Run, name string, arg []byte) error
	// Done takes down what is left when the container has ended and is not restarted, before those who are attached know.
	Done func()
	// Left tells that somebody who was attached is gone, and whether he wanted the container to go on; nil is not told.
	Left func(detached bool)
	// Policy says when it is restarted, as things are when a run has ended; nil restarts nothing.
	Policy func() Policy
	// Sleep has another program wait in the place of this one until there is something to do, or for a while if that is not 0;
	// then a monitor is to wake with Memory, to whom Start gives the process that runs. remember is called when nothing can
	// happen any more, and says whether it may go on. Sleep returns only if it cannot be done. Nil never sleeps.
	Sleep  func(wait time.Duration, remember func() (Memory, bool)) error
	Memory *Memory // of the monitor that fell asleep; nil if the container does not run

	Log        *logs.Writer // nil keeps none
	StopSignal syscall.Signal
	Health     HealthCheck
	Stdin      bool // keep the standard input open
	StdinOnce  bool // until the first who attaches closes it
	Terminal   bool
	Size       Size // of the terminal at the start; zero is not known
}

// A Monitor keeps one container. Its methods may be called concurrently.
type Monitor struct {
	config Config
	fan    *fan

	mu       sync.Mutex // guards all below
	stdin    *stdin     // of the run that goes on, or of the next
	run      *state.Run
	process  Process       // nil while none runs
	starting chan struct{} // closed when the start that goes on is over; nil while none does
	ended    chan struct{} // closed when the run that goes on has ended and is written down
	code     *int          // its exit status, which is there when ended is closed
	stop     chan struct{} // closed when a user wants no restart
	stopped  bool          // stop is closed
	size     Size          // of the terminal, of who attached last
	schedule schedule

	killTime time.Duration

	door     door
	holds    holds
	restarts restarts
}

// New makes a monitor. run is how the last run of the container went.
func New(c Config, run *state.Run) *Monitor {
	m := &Monitor{config: c, run: run, size: c.Size, fan: newFan(c.Log), ended: make(chan struct{}), code: new(int), stop: make(chan struct{})}
	m.killTime = killTime
	m.restarts.wake = make(chan struct{}, 1)
	m.openStdin()
	return m
}

// openStdin makes the standard input of the next run. The caller holds mu, or is alone.
func (m *Monitor) openStdin() {
	m.stdin = &stdin{}
	if m.config.Stdin {
		m.stdin = newStdin()
	}
}

// Keep starts the container and keeps it until it has ended and is not restarted. started is called when the command of the
// first run is executed, or has been taken over; if it cannot be, Keep fails with what Start says. listener is closed at the end; it may be nil. Those who are
// connected may still be told what became of it: see [Monitor.Drain].
func (m *Monitor) Keep(ctx context.Context, listener *net.UnixListener, started func()) (runtime.Exit, error) {
	if listener != nil {
		m.door.listener = listener
		defer listener.Close()
		if m.config.Memory == nil { // else it runs, and who asks is not to hear that it does not: see begin
			m.serve()
		}
	}
	exit, err := m.runs(ctx, started)
	if err != nil {
		m.fan.abort()
	} else {
		m.fan.close(exit.Code)
	}
	return exit, err
}

// Drain waits until all who are connected have what they asked for. One who was there from the beginning and takes nothing is
// waited for as long as it lives: by then the container is another monitor's to start.
func (m *Monitor) Drain() { m.door.all.Wait() }

// runs is Keep without those who are connected.
func (m *Monitor) runs(ctx context.Context, started func()) (runtime.Exit, error) {
	delay := firstDelay
	for first := true; ; first = false {
		m.mu.Lock()
		m.schedule = schedule{began: time.Now(), delay: delay}
		m.mu.Unlock()
		exit, err := m.once(ctx, func() {
			if first {
				started()
			}
		})
		if err != nil {
			m.restarted(err)
		}
		if first && err != nil {
			m.mu.Lock()
			m.over()
			m.mu.Unlock()
			return exit, err
		}
		m.mu.Lock()
		began := m.schedule.began
		delay = m.schedule.delay
		m.mu.Unlock()
		if time.Since(began) >= longRun {
			delay = firstDelay
		}
		again, unwritten := m.decide(exit, delay)
		if !again {
			m.config.Done()
		}
		m.fan.end(exit.Code)
		if !again {
			m.writeAgain(unwritten)
		}
		if !again || !m.pauseBefore(ctx, delay) {
			m.restarted(ErrGone)
			return exit, nil
		}
		delay = min(2*delay, lastDelay)
	}
}

// once runs the container once, and writes down how that went.
func (m *Monitor) once(ctx context.Context, started func()) (runtime.Exit, error) {
	process, health, err := m.begin(ctx)
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		return runtime.Exit{Code: m.run.ExitCode}, err
	}
	started()
	go m.watchHealth(health)
	go func() {
		<-process.Gone()
		m.fan.hurry()
	}()
	if m.config.Sleep != nil {
		go m.rest(process)
	}
	exit, err := process.Wait()
	health.stop()
	m.finished(exit, err)
	return exit, nil
}

// begin starts the container, or takes over one that runs, and writes that down.
func (m *Monitor) begin(ctx context.Context) (Process, *checks, error) {
	was, run := m.config.Memory, m.run
	m.config.Memory = nil
	m.mu.Lock()
	if was != nil {
		m.recall(was)
	} else {
		run.Error, run.ExitCode, run.OOM, run.Paused, run.Health = "", 0, false, false, nil
	}
	size := m.size
	m.starting = make(chan struct{})
	m.mu.Unlock()

	stdio := runtime.Stdio{In: m.stdin.reader(), Out: m.fan.writer(1), Err: m.fan.writer(2)}
	if m.config.Terminal {
		stdio.Err = nil
	}
	process, err := m.config.Start(ctx, stdio, run, size)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.starting)
	m.starting = nil
	if err != nil {
		m.failed(run, err)
		return nil, nil, err
	}
	if was != nil {
		m.process = process
		m.serve()
		return process, m.beginHealth(), nil
	}
	run.Boot, run.Monitor = state.BootID(), os.Getpid()
	run.Ref, _ = process.Ref() // it may have ended by now
	run.Begin()
	run.Retry = time.Time{}
	m.process = process
	health := m.beginHealth()
	err = m.config.Record(run)
	if m.size != size { // while it was started
		_ = process.Resize(m.size.Rows, m.size.Cols)
	}
	if m.stopped { // while it was about to be restarted
		_ = process.Signal(syscall.SIGKILL)
	}
	if err != nil {
		_ = process.Signal(syscall.SIGKILL)
		_, waitErr := process.Wait()
		health.quit()
		m.process = nil
		err = errors.Join(err, waitErr)
		m.failed(run, err)
		return nil, nil, err
	}
	m.config.Event("start")
	m.tell(nil) // before anybody can want yet another run
	return process, health, nil
}

// failed notes that the container could not be started. The caller holds mu.
func (m *Monitor) failed(run *state.Run, err error) {
	run.Error, run.ExitCode, run.Retry = err.Error(), exitCode(err), time.Time{}
	if run.Restarts > 0 || run.Started.After(run.Finished) {
		run.End()
	}
	run.Ref, run.Networks, run.Ports = runtime.Ref{}, nil, nil
	_ = m.config.Record(run)
	m.stdin.close()
}

// A StartError is why a command could not be started, with docker's exit status.
type StartError interface {
	error
	ExitCode() int
}

// notStarted is the exit status of a container that could not be started for another reason than its command.
const notStarted = 128

func exitCode(err error) int {
	if e, ok := errors.AsType[StartError](err); ok {
		return e.ExitCode()
	}
	return notStarted
}

// finished writes down how a run ended, and tells those who wait. Whether it is followed by another is written with it.
func (m *Monitor) finished(exit runtime.Exit, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stdin.close()
	m.openStdin()
	run := m.run
	run.End()
	run.ExitCode, run.OOM = exit.Code, exit.OOM
	run.Ref, run.Paused, run.Networks, run.Ports = runtime.Ref{}, false, nil, nil
	if err != nil {
		run.Error = err.Error()
	}
	m.process = nil
	if exit.OOM {
		m.config.Event("oom")
	}
}

// decide says whether the container is restarted, writes that down with the end of the run, and tells both. Who hears of the end and looks
// finds a container that has ended. A full disk decides nothing.
func (m *Monitor) decide(exit runtime.Exit, delay time.Duration) (again bool, unwritten error) {
	m.mu.Lock()
	asked := m.asked()
	again = !m.stopped && (asked || m.config.Policy != nil && m.config.Policy().again(exit.Code, m.run.Restarts))
	if asked {
		delay = 0
	}
	if again {
		m.run.Retry = time.Now().Add(delay).UTC()
	} else {
		m.run.Monitor = 0
	}
	unwritten = m.config.Record(m.run)
	again = again && (unwritten == nil || diskFull(unwritten)) // else the container's directory is gone
	lasted := m.run.Finished.Sub(m.run.Started)
	m.config.Event("die", "exitCode", itoa(exit.Code), "execDuration", itoa(int(lasted.Seconds())))
	m.over()
	if again {
		m.restarts.over, m.ended, m.code = false, make(chan struct{}), new(int)
	}
	m.mu.Unlock()
	return again, unwritten
}

// writeTime is how long a monitor tries to write the end of the last run, if the disk is full.
const writeTime = 10 * time.Second

// writeAgain tries again to write what a full disk did not take: without it, whoever looks finds that the container was killed.
func (m *Monitor) writeAgain(err error) {
	for delay, began := firstDelay, time.Now(); diskFull(err) && time.Since(began) < writeTime; delay *= 2 {
		time.Sleep(delay)
		m.mu.Lock()
		err = m.config.Record(m.run)
		m.mu.Unlock()
	}
}

func diskFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// over tells those who wait for the end of the run, which was the last. The caller holds mu.
func (m *Monitor) over() {
	m.restarts.over, *m.code = true, m.run.ExitCode
	close(m.ended)
}

// pauseBefore waits until it is time to restart the container. It returns false if a user stops it meanwhile.
func (m *Monitor) pauseBefore(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	m.mu.Lock()
	stop := m.stop
	m.mu.Unlock()
	select {
	case <-m.restarts.wake:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.run.Restarts, m.run.Stopped = 0, false
		return true
	case <-timer.C:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.run.Restarts++
		return true
	case <-stop:
	case <-ctx.Done():
	}
	m.mu.Lock()
	m.run.Retry, m.run.Monitor = time.Time{}, 0
	unwritten := m.config.Record(m.run)
	m.over()
	m.mu.Unlock()
	m.config.Done()
	m.writeAgain(unwritten)
	return false
}
