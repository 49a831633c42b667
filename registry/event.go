package registry

import (
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A State is how far a blob or manifest has come.
type State string

// States, in the order in which they come. Exists, Mounted and Done are the last of one blob.
const (
	Waiting State = "waiting" // for its turn, or for another process that copies it
	Copying State = "copying"
	Exists  State = "exists" // it was there before
	Mounted State = "mounted"
	Done    State = "done"
)

// An Event tells how one blob or manifest fares.
type Event struct {
	Digest    digest.Digest // of a layer that is compressed on its way, the diffID: its digest is not known yet
	MediaType string
	State     State
	Current   int64 // bytes
	Total     int64 // bytes; -1 if not known
}

// pause is the least time between two events about the progress of one blob.
const pause = 50 * time.Millisecond

// A reporter passes events on, one at a time.
type reporter struct {
	mu sync.Mutex // held while f is called
	f  func(Event)
}

func (r *reporter) tell(d ocispec.Descriptor, s State, current int64) {
	if r == nil || r.f == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.f(Event{Digest: d.Digest, MediaType: d.MediaType, State: s, Current: current, Total: d.Size})
}

// A meter counts what is copied of one blob. One goroutine at a time uses it.
type meter struct {
	rep  *reporter
	d    ocispec.Descriptor
	n    int64
	last time.Time
}

func (m *meter) add(n int) {
	m.n += int64(n)
	if m.rep == nil || m.rep.f == nil {
		return
	}
	if now := time.Now(); now.Sub(m.last) >= pause {
		m.last = now
		m.rep.tell(m.d, Copying, m.n)
	}
}

// reader counts from offset on.
func (m *meter) reader(r io.ReadCloser, offset int64) io.ReadCloser {
	return &meteredReader{r: r, m: &meter{rep: m.rep, d: m.d, n: offset}}
}

type meteredReader struct {
	r io.ReadCloser
	m *meter
}

func (r *meteredReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.add(n)
	return n, err
}

func (r *meteredReader) Close() error { return r.r.Close() }

// writer counts what is written.
func (m *meter) writer(w io.Writer) io.Writer {
	return &meteredWriter{w: w, m: &meter{rep: m.rep, d: m.d}}
}

type meteredWriter struct {
	w io.Writer
	m *meter
}

func (w *meteredWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.m.add(n)
	return n, err
}
