package monitor

import (
	"context"
	"sync"
	"time"

	"github.com/forge-build/forge/container/state"
)

// A HealthCheck says how often a container is asked whether it is well. The zero value asks never.
type HealthCheck struct {
	Interval      time.Duration // from the end of one check to the next
	Timeout       time.Duration // of a check
	StartPeriod   time.Duration // in which failures do not count
	StartInterval time.Duration // instead of Interval, while the container starts
	Retries       int           // failures in a row that make it unhealthy
}

// Docker's values of what is not given.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// WithDefaults fills in what is not given.
func (h HealthCheck) WithDefaults() HealthCheck {
	or := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	or(&h.Interval, defaultInterval)
	or(&h.Timeout, defaultTimeout)
	or(&h.StartInterval, defaultStartInterval)
	if h.Retries == 0 {
		h.Retries = defaultRetries
	}
	return h
}

// Words of a container's health.
const (
	starting  = "starting"
	healthy   = "healthy"
	unhealthy = "unhealthy"
)

// maxResults is how many results are kept, maxOutput how much of what each said.
const (
	maxResults = 5
	maxOutput  = 4096
)

// checks are the health checks of one run.
type checks struct {
	ctx  context.Context
	quit context.CancelFunc
	done sync.WaitGroup
}

// beginHealth makes ready for health checks. The caller holds mu.
func (m *Monitor) beginHealth() *checks {
	c := &checks{}
	c.ctx, c.quit = context.WithCancel(context.Background())
	if m.config.Health.Interval > 0 {
		if m.run.Health == nil { // else it runs already
			m.run.Health = &state.Health{Status: starting}
		}
		c.done.Add(1)
	}
	return c
}

// stop ends the checks.
func (c *checks) stop() {
	c.quit()
	c.done.Wait()
}

// watchHealth checks the container until the run ends.
func (m *Monitor) watchHealth(c *checks) {
	h := m.config.Health
	if h.Interval <= 0 {
		return
	}
	defer c.done.Done()
	for {
		timer := time.NewTimer(m.nextCheck())
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
		m.mu.Lock()
		process, run, began := m.process, *m.run, m.schedule.began
		m.schedule.check = time.Time{}
		m.mu.Unlock()
		if run.Paused || process == nil {
			continue
		}
		result := m.probe(c.ctx, &run)
		if c.ctx.Err() != nil || result.ExitCode != 0 && ends(process) {
			return
		}
		m.judge(result, time.Since(began))
	}
}

// ends reports whether a container is about to be gone. What was killed with it says nothing of its health.
func ends(process Process) bool {
	select {
	case <-process.Gone():
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// nextCheck is how long it is until then.
func (m *Monitor) nextCheck() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.schedule.check.IsZero() { // else it was known before this monitor fell asleep
		wait := m.config.Health.Interval
		if m.run.Health.Status == starting && time.Since(m.schedule.began) < m.config.Health.StartPeriod {
			wait = m.config.Health.StartInterval
		}
		m.schedule.check = time.Now().Add(wait)
	}
	return time.Until(m.schedule.check)
}

// probe checks once.
func (m *Monitor) probe(ctx context.Context, run *state.Run) state.HealthResult {
	timeout, cancel := context.WithTimeout(ctx, m.config.Health.Timeout)
	defer cancel()
	r := state.HealthResult{Start: time.Now().UTC()}
	code, output, err := m.config.Probe(timeout, run)
	r.End = time.Now().UTC()
	switch {
	case timeout.Err() != nil:
		code, output = -1, []byte("Health check exceeded timeout ("+m.config.Health.Timeout.String()+")")
	case err != nil:
		code, output = -1, []byte(err.Error())
	}
	r.ExitCode, r.Output = code, string(output[:min(len(output), maxOutput)])
	return r
}

// judge counts a result. While the container is as young as it may be to start, failures do not count.
func (m *Monitor) judge(r state.HealthResult, age time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := *m.run.Health // the one before may be read elsewhere
	before := h.Status
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = healthy, 0
	case age < m.config.Health.StartPeriod && h.Status == starting:
	default:
		h.FailingStreak++
		if h.FailingStreak >= m.config.Health.Retries {
			h.Status = unhealthy
		}
	}
	h.Log = append(append([]state.HealthResult(nil), h.Log...), r)
	h.Log = h.Log[max(0, len(h.Log)-maxResults):]
	m.run.Health = &h
	_ = m.config.Record(m.run)
	if h.Status != before {
		m.config.Event("health_status: " + h.Status)
	}
}
