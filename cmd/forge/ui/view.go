package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
)

// A view is what a terminal shows of a state: lines that stay above, and below them what is under way.
type view struct {
	state
	above []row // not yet shown
}

// A row is a line with something at its right edge.
type row struct{ left, right string }

// fit is the row in so many cells. One cell is left free, so that no terminal goes on to the next line. A line with nothing at its
// edge is whole.
func (r row) fit(width int) string {
	if r.right == "" {
		return r.left
	}
	room := max(1, width-2-cells(r.right))
	left := cut(r.left, room)
	return left + strings.Repeat(" ", max(0, room-cells(left))+1) + r.right
}

func (v *view) say(text string) {
	for line := range strings.Lines(text) {
		v.above = append(v.above, row{left: strings.TrimRight(line, "\n")})
	}
}

// event takes an event in, and says above what is no state of a step.
func (v *view) event(e event.Event) {
	v.apply(e)
	where := ""
	if e.Step != nil {
		where = v.label(e.Step, fewDigits) + ": "
	}
	switch e.Kind {
	case event.Explain:
		v.say(v.paint(styleDim, "why ") + where + oneLine(e.Text))
	case event.Note:
		v.say(where + oneLine(e.Text))
	case event.Warning:
		v.say(v.paint(styleWarning, "WARNING ") + where + oneLine(e.Text))
	}
}

// title is the first line: what is built, how far it has come, and how long it has taken.
func (v *view) title(now time.Time) string {
	what := v.begin.Context
	switch {
	case len(v.begin.Targets) > 0:
		what = fmt.Sprintf("%d targets: %s", len(v.begin.Targets), strings.Join(v.begin.Targets, ", "))
	case len(v.begin.Names) > 0:
		what = v.begin.Names[0]
	}
	parts := []string{v.paint(styleBold, "forge build "+oneLine(what))}
	if len(v.steps) > 0 {
		parts = append(parts, fmt.Sprintf("%d/%d", v.count(cached, done, failed, canceled), len(v.steps)))
	}
	if n := v.reused(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d cached", n))
	}
	took := now.Sub(v.began)
	if v.end != nil {
		took = v.end.Duration
	}
	parts = append(parts, seconds(took))
	switch {
	case v.count(failed) > 0:
		parts = append(parts, v.paint(styleFailed, "failed"))
	case v.count(canceled) > 0:
		parts = append(parts, v.paint(styleWarning, "canceled"))
	}
	return strings.Join(parts, " · ")
}

// reused is how many steps were answered from the cache: that a base is in the store says nothing of it.
func (v *view) reused() (n int) {
	for _, of := range v.steps {
		if of.status == cached && of.Kind != event.Base {
			n++
		}
	}
	return n
}

// row is the line of a step.
func (v *view) row(of *step, now time.Time) row {
	r := row{left: " => " + v.label(of.Step, fewDigits)}
	switch of.status {
	case running:
		r.left = v.paint(styleRunning, r.left)
		r.right = seconds(now.Sub(of.began))
	case cached:
		r.right = v.paint(styleCached, "CACHED")
	case done:
		if t := transferOf(of.blobs.all); t.bytes > 0 {
			r.right = Size(t.bytes) + " "
		}
		r.right += v.paint(styleDone, seconds(of.took))
	case failed:
		r.left, r.right = v.paint(styleFailed, r.left), v.paint(styleFailed, "ERROR")
	case canceled:
		r.left, r.right = v.paint(styleWarning, r.left), v.paint(styleWarning, "CANCELED "+seconds(of.took))
	}
	return r
}

// sorted are the steps that stand one of some ways, those of a stage together.
func (v *view) sorted(how ...status) (steps []*step) {
	for _, of := range v.steps {
		if slices.Contains(how, of.status) {
			steps = append(steps, of)
		}
	}
	byPlace(steps)
	return steps
}

func byPlace(steps []*step) {
	slices.SortStableFunc(steps, func(a, b *step) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.Number, b.Number)) })
}

// frame is what to show at a time: lines that stay, once, and lines that the next frame replaces, less than the height.
func (v *view) frame(now time.Time, width, height int) (above, bottom []string) {
	for _, r := range v.above {
		above = append(above, r.fit(width))
	}
	v.above = nil
	if v.begin == nil && len(v.steps) == 0 {
		return above, v.transfers(now, width, height-1)
	}
	room := height - 1
	if v.begin != nil {
		bottom = append(bottom, cut(v.title(now), width-1))
		room--
	}
	runs, ended := v.sorted(running), v.sorted(cached, done, failed, canceled)
	shown := runs
	if len(runs) > room || len(runs) == room && len(ended) > 0 {
		shown = runs[:max(0, room-1)]
	}
	room -= len(shown)
	hidden := len(runs) - len(shown)
	keep := min(len(ended), max(1, room/4)) // rows for what has ended
	if hidden > 0 {
		keep = 1
	}
	details := v.details(shown, max(0, room-keep), now, width)
	for i, of := range shown {
		bottom = append(bottom, v.row(of, now).fit(width))
		bottom = append(bottom, details[i]...)
		room -= len(details[i])
	}
	slices.SortStableFunc(ended, func(a, b *step) int { return b.ended.Compare(a.ended) })
	most := min(len(ended), room)
	if hidden > 0 || most < len(ended) {
		most = max(0, min(len(ended), room-1))
	}
	hidden += len(ended) - most
	last := ended[:most]
	byPlace(last)
	for _, of := range last {
		bottom = append(bottom, v.row(of, now).fit(width))
	}
	if hidden > 0 && room > 0 {
		bottom = append(bottom, v.paint(styleDim, cut(fmt.Sprintf("    +%d more", hidden), width-1)))
	}
	return above, bottom
}

// details are the lines below running steps, of each as many as fit if all have the same right to the room.
func (v *view) details(steps []*step, room int, now time.Time, width int) [][]string {
	all, shares := make([][]string, len(steps)), make([]int, len(steps))
	for i, of := range steps {
		if bar := of.bars("    ", now, width-1, v.palette); bar != "" {
			all[i] = append(all[i], bar)
		}
		lines := of.lines
		if of.live != "" {
			lines = append(slices.Clip(lines), of.live)
		}
		for _, line := range lines[max(0, len(lines)-logLines):] {
			all[i] = append(all[i], v.paint(styleDim, "    | ")+cut(line, width-7))
		}
	}
	for given := true; given && room > 0; {
		given = false
		for i := range all {
			if room > 0 && shares[i] < len(all[i]) {
				shares[i]++
				room--
				given = true
			}
		}
	}
	for i := range all { // of a log the last lines
		all[i] = all[i][len(all[i])-shares[i]:]
	}
	return all
}

// transfers are the lines of blobs of no step: a pull, a push, a save.
func (v *view) transfers(now time.Time, width, room int) (lines []string) {
	var layers []*blob
	for _, b := range v.blobs.all {
		if b.isLayer() {
			layers = append(layers, b)
		}
	}
	t := transferOf(v.blobs.all)
	total := t.blobs > 1 && room > 1
	if total {
		room--
	}
	hidden := 0
	if len(layers) > room {
		slices.SortStableFunc(layers, func(a, b *blob) int { return cmp.Compare(urgency(a), urgency(b)) })
		hidden = len(layers) - max(0, room-1)
		layers = layers[:max(0, room-1)]
	}
	for _, b := range layers {
		lines = append(lines, b.bar(now, width-1, v.palette))
	}
	if hidden > 0 {
		lines = append(lines, v.paint(styleDim, cut(fmt.Sprintf("+%d more", hidden), width-1)))
	}
	if total {
		lines = append(lines, t.line(fmt.Sprintf("%d/%d layers", t.ended, t.blobs), now, width-1, v.palette))
	}
	return lines
}

// urgency orders blobs: those that come before those that wait, and both before those that are there.
func urgency(b *blob) int {
	return slices.Index([]event.State{event.Copying, event.Waiting, event.Copied, event.Mounted, event.Exists}, b.Blob.State)
}

// shortID cuts the ID that a line ends with if the line is too long for so many cells. What names something in a registry stays whole.
func shortID(line string, most int) string {
	at := strings.LastIndex(line, " sha256:")
	if at < 0 || cells(line) < most {
		return line
	}
	return line[:min(len(line), at+len(" sha256:")+fewDigits)]
}

// last leaves what is to stay when all is over: every step that was reached, what a failed one printed, and what was made.
func (v *view) last(now time.Time, width int, outcome []string) {
	steps := v.sorted(running, cached, done, failed, canceled)
	if v.begin != nil && len(outcome) == 0 && len(steps) > 0 {
		v.say(v.title(now))
	}
	for _, of := range steps {
		if of.status == running { // nobody said how it ended
			of.status, of.took = canceled, now.Sub(of.began)
		}
		v.above = append(v.above, v.row(of, now))
	}
	for _, of := range steps {
		if of.status == failed {
			v.say(v.failureTail(v.label(of.Step, fewDigits), of.tail))
		}
	}
	v.steps, v.begin = nil, nil
	for _, b := range v.blobs.all { // bars of a transfer stay
		if b.isLayer() {
			v.above = append(v.above, row{left: b.bar(now, 79, v.palette)})
		}
	}
	v.blobs = blobs{}
	for _, line := range outcome {
		if word, rest, ok := strings.Cut(line, " "); ok && slices.Contains([]string{"built", "pushed"}, word) {
			line = v.paint(styleDone, word) + " " + shortID(rest, width-len(word)-1)
		}
		v.say(line)
	}
}
