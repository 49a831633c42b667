package image

import (
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

	last time.Time // of the last event
}

// meterPause is the least time between two events about the progress of one blob.
const meterPause = 50 * time.Millisecond

// Report sends that the blob has come to a state.
func (m *Meter) Report(s event.State) {
	m.Events.Send(event.Event{
		Time: time.Now(), Kind: event.Blob, Bytes: m.Bytes, Total: m.Blob.Size,
		Blob: &event.BlobInfo{Digest: m.Blob.Digest.String(), MediaType: m.Blob.MediaType, State: s},
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
