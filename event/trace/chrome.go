package trace

import (
	"encoding/json"
	"io"
	"slices"
	"time"
)

// A chromeEvent is one of the trace event format, which Chrome (about:tracing), Perfetto and others read.
type chromeEvent struct {
	Name  string         `json:"name"`
	Cat   string         `json:"cat,omitempty"`
	Phase string         `json:"ph"`
	TS    float64        `json:"ts"`            // microseconds since the build began
	Dur   float64        `json:"dur,omitempty"` // microseconds
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	Args  map[string]any `json:"args,omitempty"`
}

// Chrome writes the build as trace events: a thread for each stage, and more where steps of one overlap.
func (t *Trace) Chrome(w io.Writer) error {
	events := []chromeEvent{{Name: "process_name", Phase: "M", PID: 1, Args: map[string]any{"name": "forge build " + t.Name()}}}
	tid := 0
	for _, stage := range t.Stages() {
		slices.SortStableFunc(stage.Steps, func(a, b *Step) int { return a.Start.Compare(b.Start) })
		var lanes []time.Time // when each is free
		for _, s := range stage.Steps {
			if s.Start.IsZero() {
				continue
			}
			lane := 0
			for lane < len(lanes) && s.Start.Before(lanes[lane]) {
				lane++
			}
			if lane == len(lanes) {
				lanes = append(lanes, time.Time{})
				events = append(events, chromeEvent{Name: "thread_name", Phase: "M", PID: 1, TID: tid + lane, Args: map[string]any{"name": stage.Name}})
			}
			lanes[lane] = s.End
			events = append(events, chromeEvent{
				Name: s.Title(), Cat: string(s.State), Phase: "X", PID: 1, TID: tid + lane,
				TS: micros(s.Start.Sub(t.Start)), Dur: micros(s.Work()), Args: s.arguments(),
			})
		}
		tid += max(1, len(lanes))
	}
	enc := json.NewEncoder(w)
	return enc.Encode(struct {
		Events []chromeEvent `json:"traceEvents"`
		Unit   string        `json:"displayTimeUnit"`
	}{events, "ms"})
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// arguments are what is known of a step besides its time.
func (s *Step) arguments() map[string]any {
	args := map[string]any{"state": string(s.State), "kind": string(s.Kind)}
	put := func(name string, n int64) {
		if n > 0 {
			args[name] = n
		}
	}
	put("layer.bytes", s.Bytes)
	put("copied.bytes", s.Copied)
	if s.Critical {
		args["critical"] = true
	}
	if s.Place != "" {
		args["cache"] = s.Place
	}
	if u := s.Usage; u != nil {
		args["cpu.seconds"] = u.CPU.Seconds()
		put("memory.peak.bytes", u.Memory)
		put("disk.read.bytes", u.Read)
		put("disk.written.bytes", u.Written)
	}
	if s.Why != nil {
		args["why"] = s.Why.Lines()
	}
	return args
}
