package image

import (
	"io"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
)

// A Meter sends how a blob fares to Events, which may be nil. What is written to it counts as copied. One goroutine at a time
// uses it.
type Meter struct {
	Events event.Sink
	Blob   ocispec.Descriptor
	Bytes  int64 // copied so far
	Length int64 // of the tar that the blob is made of, if that is read meanwhile; else 0

	read atomic.Int64 // bytes of that
	last time.Time    // of the last event
}

// meterPause is the least time between two events about the progress of one blob.
const meterPause = 50 * time.Millisecond

// Report sends that the blob has come to a state.
func (m *Meter) Report(s event.State) {
	m.Events.Send(event.Event{
		Time: time.Now(), Kind: event.Blob, Bytes: m.Bytes, Total: m.Blob.Size,
		Blob: &event.BlobInfo{
			Digest: m.Blob.Digest.String(), MediaType: m.Blob.MediaType, State: s, Read: m.read.Load(), Length: m.Length,
		},
	})
}

// Write counts bytes that were copied. It never fails.
func (m *Meter) Write(p []byte) (int, error) {
	m.Bytes += int64(len(p))
	if m.Events != nil && time.Since(m.last) >= meterPause {
		m.last = time.Now()
		m.Report(event.Copying)
	}
	return len(p), nil
}

// reading counts what is read of the tar, which another goroutine than that of Write may do.
func (m *Meter) reading(r io.Reader) io.Reader { return &metered{r, &m.read} }

type metered struct {
	io.Reader
	read *atomic.Int64
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read.Add(int64(n))
	return n, err
}
