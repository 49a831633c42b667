package registry

import (
	"io"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
)

// pause is the least time between two events about the progress of one blob.
const pause = 50 * time.Millisecond

// A reporter sends how blobs fare, one event at a time.
type reporter struct {
	mu     sync.Mutex // held while events is called
	events event.Sink
}

// wanted reports whether anybody takes the events.
func (r *reporter) wanted() bool { return r != nil && r.events != nil }

// report sends that copied bytes of a blob have been copied.
func (r *reporter) report(d ocispec.Descriptor, s event.State, copied int64) {
	if !r.wanted() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events.Send(event.Event{
		Time: time.Now(), Kind: event.Blob, Bytes: copied, Total: d.Size,
		Blob: &event.BlobInfo{Digest: d.Digest.String(), MediaType: d.MediaType, State: s},
	})
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
	if !m.rep.wanted() {
		return
	}
	if now := time.Now(); now.Sub(m.last) >= pause {
		m.last = now
		m.rep.report(m.d, event.Copying, m.n)
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
