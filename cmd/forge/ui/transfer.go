package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/forge-build/forge/registry"
)

// A Transfer shows a pull or push, blob by blob. Event and Note may be called by any goroutine.
type Transfer struct {
	mu   sync.Mutex // guards all below
	w    io.Writer
	how  string // plain, tty, rawjson or quiet
	all  []*blobProgress
	last time.Time
	rows int // drawn on the terminal
}

type blobProgress struct {
	registry.Event
	began time.Time
	told  registry.State
}

// NewTransfer returns what shows a transfer on w; see [NewBuild] for how.
func NewTransfer(how string, w io.Writer) *Transfer {
	f, isFile := w.(*os.File)
	terminal := isFile && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	if how == "auto" || how == "tty" && !terminal {
		how = "plain"
		if terminal {
			how = "tty"
		}
	}
	return &Transfer{w: w, how: how}
}

// Event shows how a blob fares.
func (t *Transfer) Event(e registry.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.blob(e)
	switch t.how {
	case "rawjson":
		t.json(map[string]any{
			"time": time.Now(), "event": "blob", "digest": e.Digest, "mediaType": e.MediaType, "state": e.State,
			"current": e.Current, "total": e.Total,
		})
	case "plain":
		if b.told != e.State && e.State != registry.Waiting && strings.Contains(e.MediaType, "layer") || b.told == "" && e.State == registry.Exists {
			_, _ = fmt.Fprintf(t.w, "%s: %s\n", shortDigest(e), stateWords(e.State))
		}
	case "tty":
		if now := time.Now(); now.Sub(t.last) > repaintEvery || b.told != e.State {
			t.last = now
			t.paint()
		}
	}
	b.told = e.State
}

func (t *Transfer) blob(e registry.Event) *blobProgress {
	for _, b := range t.all {
		if b.Digest == e.Digest {
			if b.State == registry.Waiting && e.State == registry.Copying {
				b.began = time.Now()
			}
			b.Event = e
			return b
		}
	}
	b := &blobProgress{Event: e, began: time.Now()}
	t.all = append(t.all, b)
	return b
}

// Note shows a line.
func (t *Transfer) Note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.how {
	case "quiet":
	case "rawjson":
		t.json(map[string]any{"time": time.Now(), "event": "note", "text": text})
	default:
		t.erase()
		_, _ = fmt.Fprintln(t.w, oneLine(text))
	}
}

// Close shows how it ended.
func (t *Transfer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.how == "tty" {
		t.paint()
	}
}

func (t *Transfer) json(v map[string]any) {
	enc := json.NewEncoder(t.w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

func (t *Transfer) erase() {
	if t.rows > 0 {
		_, _ = fmt.Fprintf(t.w, "\x1b[%dA\r\x1b[J", t.rows)
		t.rows = 0
	}
}

// paint draws a bar a layer.
func (t *Transfer) paint() {
	width, height := 80, 24
	if f, ok := t.w.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 40 {
			width, height = w, h
		}
	}
	t.erase()
	for _, b := range t.all {
		if !strings.Contains(b.MediaType, "layer") && !strings.Contains(b.MediaType, "rootfs") || t.rows >= height-1 {
			continue
		}
		_, _ = fmt.Fprintln(t.w, cut(b.line(width), width))
		t.rows++
	}
}

func (b *blobProgress) line(width int) string {
	head := shortDigest(b.Event) + ": " + fmt.Sprintf("%-16s", stateWords(b.State))
	if b.State != registry.Copying {
		return head
	}
	elapsed := time.Since(b.began).Seconds()
	rate := float64(b.Current) / max(elapsed, 0.001)
	tail := fmt.Sprintf(" %s %s/s", units.HumanSize(float64(b.Current)), units.HumanSize(rate))
	if b.Total <= 0 {
		return head + tail
	}
	left := time.Duration(float64(b.Total-b.Current) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	tail = fmt.Sprintf(" %s/%s %s/s %s", units.HumanSize(float64(b.Current)), units.HumanSize(float64(b.Total)), units.HumanSize(rate), left)
	room := max(10, width-len(head)-len(tail)-4)
	full := int(float64(room) * float64(b.Current) / float64(b.Total))
	full = min(max(full, 0), room)
	return head + " [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "]" + tail
}

func shortDigest(e registry.Event) string {
	hex := e.Digest.Encoded()
	return hex[:min(12, len(hex))]
}

func stateWords(s registry.State) string {
	switch s {
	case registry.Waiting:
		return "Waiting"
	case registry.Copying:
		return "Copying"
	case registry.Exists:
		return "Already exists"
	case registry.Mounted:
		return "Mounted"
	case registry.Done:
		return "Done"
	}
	return string(s)
}
