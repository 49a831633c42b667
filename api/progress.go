package api

import (
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/event"
)

// A message is an object of docker's progress streams.
type message struct {
	Status   string        `json:"status,omitempty"`
	Stream   string        `json:"stream,omitempty"`
	Progress *progressPart `json:"progressDetail,omitempty"`
	ID       string        `json:"id,omitempty"`
	Aux      any           `json:"aux,omitempty"`
}

// A progressPart is how far something has come, in bytes.
type progressPart struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

// A progress shows the events of a pull or a push as docker's daemon does.
type progress struct {
	send   func(any) error
	first  message // is sent before all others
	states map[event.State]string

	mu    sync.Mutex // guards all below
	begun bool
	shown map[string]time.Time // when each blob was shown last
	err   error                // of the first message that could not be sent
}

// Docker's words for what is done to layers.
var (
	pullStates = map[event.State]string{ //nolint:gochecknoglobals // a table
		event.Waiting: "Pulling fs layer", event.Copying: "Downloading", event.Exists: "Already exists", event.Mounted: "Already exists", event.Copied: "Pull complete",
	}
	pushStates = map[event.State]string{ //nolint:gochecknoglobals // a table
		event.Waiting: "Preparing", event.Copying: "Pushing", event.Exists: "Layer already exists", event.Mounted: "Mounted", event.Copied: "Pushed",
	}
)

// progressPause is how often a blob that is being copied is shown.
const progressPause = 100 * time.Millisecond

// begin sends the first message, once.
func (p *progress) begin() {
	p.mu.Lock()
	begun := p.begun
	p.begun = true
	p.mu.Unlock()
	if !begun {
		p.say(p.first)
	}
}

// say sends a message, unless one has failed.
func (p *progress) say(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = p.send(m)
	}
}

func (p *progress) status(id, text string) { p.say(message{ID: id, Status: text}) }

// event shows what happens to a layer. Manifests and configurations are not shown.
func (p *progress) event(e event.Event) {
	switch e.Kind {
	case event.Note, event.Warning:
		p.begin()
		p.status("", e.Text)
		return
	case event.Blob:
	default:
		return
	}
	if t := e.Blob.MediaType; !strings.Contains(t, "layer") && !strings.Contains(t, "rootfs") && t != "" {
		return
	}
	p.begin()
	_, id, _ := strings.Cut(e.Blob.Digest, ":")
	m := message{ID: id[:min(shortID, len(id))], Status: p.states[e.Blob.State], Progress: &progressPart{}}
	if e.Blob.State == event.Copying {
		if !p.due(m.ID) {
			return
		}
		m.Progress = &progressPart{e.Bytes, max(0, e.Total)}
	}
	p.say(m)
}

// shortID is how many digits of an ID people are shown.
const shortID = 12

// due reports whether a blob that is being copied is to be shown again.
func (p *progress) due(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.shown[id]) < progressPause {
		return false
	}
	if p.shown == nil {
		p.shown = map[string]time.Time{}
	}
	p.shown[id] = now
	return true
}
