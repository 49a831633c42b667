package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
)

// A transfer is how far bytes have come that are copied, of one blob or of several.
type transfer struct {
	bytes, total int64 // total is -1 if it is not known
	began        time.Time
	blobs, ended int
}

// transferOf adds up the layers of a step. It has no blobs if nothing is copied.
func transferOf(blobs []*blob) (t transfer) {
	for _, b := range blobs {
		if !b.isLayer() || b.Blob.State == event.Exists || b.Blob.State == event.Mounted {
			continue
		}
		if t.blobs++; b.Blob.State == event.Copied {
			t.ended++
			b.Bytes = max(b.Bytes, b.Total)
		}
		t.bytes += b.Bytes
		switch {
		case b.Total < 0 || t.total < 0:
			t.total = -1
		default:
			t.total += max(b.Total, b.Bytes)
		}
		if b.Blob.State != event.Waiting && (t.began.IsZero() || b.began.Before(t.began)) {
			t.began = b.began
		}
	}
	return t
}

// line is the transfer at a time after a head, with a bar that fills so many cells.
func (t transfer) line(head string, now time.Time, most int, colors palette) string {
	rate := 0.0
	if !t.began.IsZero() {
		rate = float64(t.bytes) / max(now.Sub(t.began).Seconds(), 0.1)
	}
	speed := " " + Size(int64(rate)) + "/s"
	if t.total <= 0 {
		return cut(head+" "+Size(t.bytes)+speed, most)
	}
	tail := " " + Size(t.bytes) + "/" + Size(t.total) + speed
	if left := t.total - t.bytes; rate >= 1 && left > 0 {
		tail += " " + (time.Duration(float64(left) / rate * float64(time.Second))).Round(time.Second).String() + " left"
	}
	room := min(40, most-cells(head)-len(tail)-3)
	if room < 5 {
		return cut(head+tail, most)
	}
	full := min(int(int64(room)*t.bytes/t.total), room)
	bar := strings.Repeat("=", full)
	if full < room {
		bar += ">" + strings.Repeat(" ", room-full-1)
	}
	return head + " [" + colors.paint(styleRunning, bar) + "]" + tail
}

// bar is the line of one blob.
func (b *blob) bar(now time.Time, most int, colors palette) string {
	head := b.name() + ": " + stateWords(b.Blob.State)
	if b.Blob.State != event.Copying {
		return cut(head, most)
	}
	return transfer{bytes: b.Bytes, total: b.Total, began: b.began}.line(head, now, most, colors)
}

// bars is the line of a step's transfer, "" if it has none.
func (of *step) bars(prefix string, now time.Time, most int, colors palette) string {
	t := transferOf(of.blobs)
	if t.blobs == 0 {
		return ""
	}
	head := "1 layer"
	if len(of.blobs) == 1 && strings.HasPrefix(of.blobs[0].Blob.Digest, "file:") {
		head = of.blobs[0].name()
	} else if t.blobs > 1 {
		head = fmt.Sprintf("%d/%d layers", t.ended, t.blobs)
	}
	return t.line(prefix+head, now, most, colors)
}
