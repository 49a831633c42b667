package monitor

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/logs"
)

// quiet is how long nothing happens to a container until its monitor sleeps.
const quiet = 5 * time.Second

// ErrBusy says that this is no time to sleep.
var ErrBusy = errors.New("the monitor is busy")

// A Memory is what a monitor knows that is written nowhere else, for the one that wakes in its place. Times count from
// Asleep, which is one of the machine's clock (CLOCK_MONOTONIC).
type Memory struct {
	Asleep  time.Duration
	Age     time.Duration // of the run
	Check   time.Duration // until the next health check; 0 is none
	Delay   time.Duration // before a restart
	Size    Size          // of the terminal
	Last    bool          // there is no other run
	Stopped bool          // the restart policy rests
	NoInput bool          // the standard input has ended
	Log     logs.Memory
}

// A door is where others reach a monitor, and those who are connected.
type door struct {
	listener *net.UnixListener
	serving  chan struct{} // closed when nobody is served any more; guarded by the monitor's mu

	all  sync.WaitGroup
	now  atomic.Int32
	last atomic.Int64 // when one of them left, in nanoseconds of the machine's clock
}

func (d *door) enter() { d.all.Add(1); d.now.Add(1) }

func (d *door) leave() { d.last.Store(int64(clock())); d.now.Add(-1); d.all.Done() }

// clock is the machine's, which goes on while this program is replaced by another.
func clock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// A schedule is when things were or will be. It is guarded by the monitor's mu.
type schedule struct {
	began time.Time // the run
	delay time.Duration
	check time.Time // the next health check; zero while there is one, or if there are none
}

// rest sleeps whenever it is quiet around a run.
func (m *Monitor) rest(process Process) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case <-process.Gone():
			return
		case <-timer.C:
		}
		wait := quiet - m.quietFor()
		if wait <= 0 {
			_ = m.sleep() // else later
			wait = quiet
		}
		timer.Reset(wait)
	}
}

// quietFor is how long nothing has happened.
func (m *Monitor) quietFor() time.Duration {
	now := clock()
	m.fan.mu.Lock()
	defer m.fan.mu.Unlock()
	return min(now-m.fan.wrote, now-time.Duration(m.door.last.Load()))
}

// sleep has the owner of the monitor put another program in the place of this one. It returns if that cannot be.
func (m *Monitor) sleep() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	check := time.Duration(0)
	if m.config.Health.Interval > 0 {
		if check = time.Until(m.schedule.check); check < quiet { // soon, or now
			return ErrBusy
		}
	}
	if m.process == nil || m.door.now.Load() > 0 || !m.stdin.taken() {
		return ErrBusy
	}
	// Who has been accepted, and is not known to the rest of this program, would be forgotten.
	if err := m.door.listener.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	<-m.door.serving
	defer func() {
		_ = m.door.listener.SetDeadline(time.Time{})
		m.serve()
	}()
	if m.door.now.Load() > 0 {
		return ErrBusy
	}
	return m.config.Sleep(check, func() (Memory, bool) {
		now := Memory{
			Asleep: clock(), Age: time.Since(m.schedule.began), Check: check, Delay: m.schedule.delay,
			Size: m.size, Last: m.stopped, Stopped: m.run.Stopped, NoInput: m.stdin.over.Load(),
		}
		var ok bool
		now.Log, ok = m.fan.remember()
		return now, ok && m.door.now.Load() == 0 // SIGTERM may have come meanwhile, which the next program would not hear of
	})
}

// recall makes this the monitor that fell asleep. The caller holds mu.
func (m *Monitor) recall(was *Memory) {
	slept := clock() - was.Asleep
	m.schedule = schedule{began: time.Now().Add(-was.Age - slept), delay: was.Delay}
	if was.Check > 0 {
		m.schedule.check = time.Now().Add(was.Check - slept)
	}
	m.size = was.Size
	if was.Last {
		m.lastRun()
	}
	if was.Stopped {
		m.noRestart()
	}
	if was.NoInput {
		m.stdin.eof()
	}
	m.fan.log.Recall(was.Log)
}
