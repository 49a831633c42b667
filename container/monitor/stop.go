package monitor

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// signal sends a signal. One that is meant to end the container ends its restarts, too.
func (m *Monitor) signal(sig syscall.Signal) error {
	m.mu.Lock()
	for sig != unix.SIGKILL && m.starting != nil { // the process may run already, and be waiting for the signal
		starting := m.starting
		m.mu.Unlock()
		<-starting
		m.mu.Lock()
	}
	process, ended := m.process, m.ended
	last := sig == unix.SIGKILL || sig == m.config.StopSignal
	if last {
		m.noRestart()
	}
	restarting := process == nil && !m.restarts.over
	m.mu.Unlock()
	switch {
	case restarting && last: // it has no other run now
		<-ended
		return nil
	case process == nil:
		return errNotRunning
	}
	m.config.Event("kill", "signal", itoa(int(sig)))
	if sig == unix.SIGKILL {
		_ = m.unpause() // a frozen process of cgroup version 1 does not die
	}
	err := process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) { // its end is not written down yet
		err = nil
	}
	if err == nil && sig == unix.SIGKILL && !waitFor(ended, m.killTime) {
		err = errAlive
	}
	return err
}

// noRestart lets the restart policy rest until a user starts the container. The caller holds mu.
func (m *Monitor) noRestart() {
	m.lastRun()
	m.run.Stopped = true
}

// lastRun lets no other run begin. The caller holds mu.
func (m *Monitor) lastRun() {
	if !m.stopped {
		m.stopped = true
		close(m.stop)
	}
}

// stopAll ends the container, and its restarts.
func (m *Monitor) stopAll(sig syscall.Signal, seconds int) error {
	m.mu.Lock()
	m.noRestart()
	m.mu.Unlock()
	return m.end(sig, seconds)
}

// Shutdown ends the container as the machine is to stop: as a user does, but its restart policy does not rest, so that the next boot starts
// it. After so many seconds (-1: never) it is killed.
func (m *Monitor) Shutdown(sig syscall.Signal, seconds int) error {
	m.door.enter() // it does not sleep meanwhile
	defer m.door.leave()
	m.mu.Lock()
	m.lastRun()
	m.mu.Unlock()
	return m.end(sig, seconds)
}

// end ends the run that goes on.
func (m *Monitor) end(sig syscall.Signal, seconds int) error {
	m.mu.Lock()
	process, ended := m.process, m.ended
	m.mu.Unlock()
	if process == nil {
		<-ended
		return nil
	}
	m.config.Event("kill", "signal", itoa(int(sig)))
	err := process.Signal(sig)
	_ = m.unpause()
	if err == nil && !waitFor(ended, time.Duration(seconds)*time.Second) {
		m.config.Event("kill", "signal", itoa(int(unix.SIGKILL)))
		err = process.Signal(unix.SIGKILL)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !waitFor(ended, m.killTime) {
		return errAlive
	}
	m.config.Event("stop")
	return nil
}

// killTime is how long a container may take to end after SIGKILL. One that waits for a device or a server in the kernel
// (state D of ps) does not end before that has answered.
const killTime = 10 * time.Second

// errAlive is docker's text.
var errAlive = errors.New("tried to kill container, but did not receive an exit event")

// waitFor waits for some time, or for ever if it is negative.
func waitFor(ended chan struct{}, d time.Duration) bool {
	if d < 0 {
		<-ended
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// pause stops all processes of the container.
func (m *Monitor) pause() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.process == nil:
		return errNotRunning
	case m.run.Paused:
		return errPaused
	}
	if err := m.config.Freeze(m.run.Ref); err != nil {
		return err
	}
	m.run.Paused = true
	m.config.Event("pause")
	return m.config.Record(m.run)
}

// unpause lets them go on.
func (m *Monitor) unpause() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.process == nil:
		return errNotRunning
	case !m.run.Paused:
		return errNotPaused
	}
	if err := m.config.Thaw(m.run.Ref); err != nil {
		return err
	}
	m.run.Paused = false
	m.config.Event("unpause")
	return m.config.Record(m.run)
}
