package ui

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
)

// A transfer is how far bytes have come that are copied, of one blob or of several.
type transfer struct {
	bytes, total int64 // total is -1 if it is not known
	read, length int64 // of what the bytes are made of, where the total is not known; of others the same as bytes and total
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
		read, length := b.part()
		t.read, t.length = t.read+read, t.length+length
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

// part is how much of a blob is done, of how much: of one that is compressed meanwhile, bytes of its tar.
func (b *blob) part() (read, length int64) {
	if b.Total < 0 {
		return b.Blob.Read, b.Blob.Length
	}
	return b.Bytes, max(b.Total, b.Bytes)
}

// line is the transfer at a time after a head, with a bar that fills so many cells.
func (t transfer) line(head string, now time.Time, most int, colors palette) string {
	elapsed := max(now.Sub(t.began).Seconds(), 0.1)
	if t.began.IsZero() {
		elapsed = math.Inf(1)
	}
	tail := " " + Size(t.bytes)
	if t.total > 0 {
		tail += "/" + Size(t.total)
	}
	tail += " " + Size(int64(float64(t.bytes)/elapsed)) + "/s"
	if t.length <= 0 {
		return cut(head+tail, most)
	}
	if rate, left := float64(t.read)/elapsed, t.length-t.read; rate >= 1 && left > 0 {
		tail += " " + (time.Duration(float64(left) / rate * float64(time.Second))).Round(time.Second).String() + " left"
	}
	room := min(40, most-cells(head)-len(tail)-3)
	if room < 5 {
		return cut(head+tail, most)
	}
	full := min(int(int64(room)*t.read/t.length), room)
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
	t := transfer{bytes: b.Bytes, total: b.Total, began: b.began}
	t.read, t.length = b.part()
	return t.line(head, now, most, colors)
}

// bars is the line of a step's transfer, "" if it has none.
func (of *step) bars(prefix string, now time.Time, most int, colors palette) string {
	t := transferOf(of.blobs.all)
	if t.blobs == 0 {
		return ""
	}
	head := "1 layer"
	if len(of.blobs.all) == 1 && strings.HasPrefix(of.blobs.all[0].Blob.Digest, "file:") {
		head = of.blobs.all[0].name()
	} else if t.blobs > 1 {
		head = fmt.Sprintf("%d/%d layers", t.ended, t.blobs)
	}
	return t.line(prefix+head, now, most, colors)
}
