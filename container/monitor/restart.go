package monitor

import (
	"errors"
	"slices"
	"syscall"
)

// restarts are those who want the container ended and started again. The monitor's mu guards it.
type restarts struct {
	wait []chan error  // each gets what became of the next start
	wake chan struct{} // what waits for the time of the next start is not to wait longer
	over bool          // there is no other run
}

// restart ends the run that goes on and lets another begin, whatever the policy says and whoever has stopped it, or begins it at once if there is
// none. What it returns is "" if the container has ended otherwise: the connection closes, as it does when a monitor is gone.
func (m *Monitor) restart(sig syscall.Signal, seconds int) (string, error) {
	m.mu.Lock()
	if m.restarts.over {
		m.mu.Unlock()
		return "", nil
	}
	stopped := m.stopped
	if stopped { // by a signal that it has survived, or by somebody who still waits
		m.stopped, m.run.Stopped, m.stop = false, false, make(chan struct{})
	}
	started := make(chan error, 1)
	m.restarts.wait = append(m.restarts.wait, started)
	select {
	case m.restarts.wake <- struct{}{}:
	default:
	}
	process := m.process
	m.mu.Unlock()
	if process != nil {
		if err := m.end(sig, seconds); err != nil {
			m.forget(started)
			if stopped {
				m.mu.Lock()
				m.noRestart()
				m.mu.Unlock()
			}
			return "", err
		}
	}
	err := <-started
	if errors.Is(err, ErrGone) {
		return "", nil
	}
	if err == nil {
		m.config.Event("restart")
	}
	return "ok", err
}

// asked reports whether somebody wants another run. The caller holds mu.
func (m *Monitor) asked() bool { return len(m.restarts.wait) > 0 }

// restarted tells those who wait for another run how its start went.
func (m *Monitor) restarted(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(err)
}

// tell is restarted for a caller that holds mu.
func (m *Monitor) tell(err error) {
	for _, c := range m.restarts.wait {
		c <- err
	}
	m.restarts.wait = nil
	select {
	case <-m.restarts.wake:
	default:
	}
}

// forget lets somebody wait no more.
func (m *Monitor) forget(c chan error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restarts.wait = slices.DeleteFunc(m.restarts.wait, func(other chan error) bool { return other == c })
}
