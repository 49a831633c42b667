package monitor

import (
	"errors"
	"io"
	"sync"
)

// holds are those who want the container paused for as long as they are there.
type holds struct {
	mu   sync.Mutex // guards all below
	n    int
	only bool // nobody but them has paused it
}

// hold pauses the container for as long as the connection is open. Of several who hold it, the last lets it go on.
func (m *Monitor) hold(c io.Writer, in io.Reader) (string, error) {
	if err := m.takeHold(); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "ok\n"); err == nil {
		_, _ = io.Copy(io.Discard, in) // however it ends
	}
	return "ok", m.releaseHold()
}

func (m *Monitor) takeHold() error {
	m.holds.mu.Lock()
	defer m.holds.mu.Unlock()
	if m.holds.n == 0 {
		err := m.pause()
		if err != nil && !errors.Is(err, errPaused) {
			return err
		}
		m.holds.only = err == nil
	}
	m.holds.n++
	return nil
}

func (m *Monitor) releaseHold() error {
	m.holds.mu.Lock()
	defer m.holds.mu.Unlock()
	m.holds.n--
	if m.holds.n > 0 || !m.holds.only {
		return nil
	}
	err := m.unpause()
	if errors.Is(err, errNotRunning) || errors.Is(err, errNotPaused) {
		return nil // it has ended, or somebody else has let it go on
	}
	return err
}
