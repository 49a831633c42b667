package main

import (
	"fmt"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event"
)

type pushCmd struct {
	Name     string   `arg:"" help:"Name of an image of the store."`
	AllTags  bool     `short:"a" help:"Every tag of the repository."`
	Platform []string `help:"Which images of an index; all that the store has if not given." placeholder:"OS/ARCH"`
	forge.CompressionOptions
	remoteFlags
	trustFlags
}

func (c *pushCmd) Run(s *session) error {
	if err := c.trustFlags.check(); err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		remote, done := c.options(s)
		sent := transferred{show: remote.Events, blobs: map[string]int64{}}
		remote.Events = sent.event
		pushed, err := h.Push(s.ctx, c.Name, forge.PushOptions{
			RemoteOptions: remote, AllTags: c.AllTags, CompressionOptions: c.CompressionOptions, Platforms: c.Platform,
		})
		done()
		for _, p := range pushed {
			if c.Quiet {
				_, _ = fmt.Fprintln(s.out, p.Descriptor.Digest)
			} else {
				_, _ = fmt.Fprintf(s.out, "%s: digest: %s size: %d\n", p.Reference.Tag, p.Descriptor.Digest, p.Descriptor.Size)
			}
		}
		if !c.Quiet && err == nil {
			_, _ = fmt.Fprintln(s.err, sent.text())
		}
		return err
	})
}

// transferred counts the blobs of a push.
type transferred struct {
	show  event.Sink
	blobs map[string]int64 // bytes of those that were sent, by digest
	there int              // that the registry had
}

func (t *transferred) event(e event.Event) {
	t.show.Send(e)
	if e.Kind != event.Blob || e.Blob == nil {
		return
	}
	switch e.Blob.State {
	case event.Copied:
		t.blobs[e.Blob.Digest] = e.Bytes
	case event.Exists, event.Mounted:
		t.there++
	}
}

// text is the sum.
func (t *transferred) text() string {
	var total int64
	for _, n := range t.blobs {
		total += n
	}
	return fmt.Sprintf("sent %d %s, %s; the registry had %d", len(t.blobs), plural(len(t.blobs), "blob"), units.HumanSize(float64(total)), t.there)
}
