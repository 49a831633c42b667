package trace

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
)

// HTML writes the build as a page that needs nothing else: no script, and nothing from elsewhere.
func (t *Trace) HTML(w io.Writer) error {
	p := &page{trace: t, whole: max(t.Duration(), time.Millisecond)}
	p.head()
	p.tiles()
	p.advice()
	p.chart()
	p.table()
	p.printf("</main></body></html>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// A page is one that is being written.
type page struct {
	trace *Trace
	whole time.Duration
	b     strings.Builder
}

// printf writes; what comes from elsewhere has gone through text.
func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// text is text of a stranger's in HTML, also as the value of an attribute in double quotes: without control characters and what turns the
// direction of a line.
func text(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			return -1
		case r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, s))
}

func (p *page) head() {
	t := p.trace
	verdict, class := "succeeded", "ok"
	if t.Error != "" {
		verdict, class = "failed", "bad"
	}
	p.printf(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark"><title>%s: %s</title><style>%s</style></head><body><main>
<h1>%[1]s <span class="%[4]s">%[5]s in %[2]s</span></h1>
`, text(t.Name()), short(t.Duration()), style, class, verdict)
	facts := []string{t.Start.Local().Format("2006-01-02 15:04:05"), "build " + t.Build}
	if b := t.Begin; b != nil {
		facts = append(facts, "context "+b.Context)
		if b.Target != "" {
			facts = append(facts, "target "+b.Target)
		}
		if len(b.Platforms) > 0 {
			facts = append(facts, strings.Join(b.Platforms, ", "))
		}
	}
	if t.Image != "" {
		facts = append(facts, t.Image)
	}
	p.printf("<p class=facts>%s</p>\n", text(strings.Join(facts, " · ")))
	if t.Error != "" {
		p.printf("<p class=error>%s</p>\n", text(t.Error))
	}
}

// tiles are the figures of the whole build.
func (p *page) tiles() {
	var ran, cached, failed int
	var pulled, pushed, peak int64
	var work, cpu time.Duration
	for _, s := range p.trace.Steps() {
		switch {
		case s.Kind == event.Base:
			pulled += s.Copied
		case s.Kind == event.Push:
			pushed += s.Copied
		case s.State == event.Cached:
			cached++
		case s.State == event.Failed:
			failed++
		case s.ran() && s.Stage != "":
			ran++
		}
		if s.ran() {
			work += s.Work()
		}
		if s.Usage != nil {
			cpu += s.Usage.CPU
			peak = max(peak, s.Usage.Memory)
		}
	}
	p.printf("<dl class=tiles>")
	tile := func(name, value string) { p.printf("<div><dt>%s</dt><dd>%s</dd></div>", name, value) }
	tile("ran", fmt.Sprint(ran))
	tile("from the cache", fmt.Sprint(cached))
	if failed > 0 {
		tile("failed", fmt.Sprint(failed))
	}
	tile("pulled", size(pulled))
	tile("pushed", size(pushed))
	tile("processor time of RUN", short(cpu))
	tile("peak memory of a process", size(peak))
	tile("steps at once, on average", fmt.Sprintf("%.1f", share(work, p.whole)))
	p.printf("</dl>\n")
}

func (p *page) advice() {
	list := p.trace.Advice()
	if len(list) == 0 {
		return
	}
	p.printf("<h2>What would have made it faster</h2><ul class=advice>\n")
	for _, a := range list {
		p.printf("<li>%s</li>\n", text(a))
	}
	p.printf("</ul>\n")
}

// chart draws the steps by stages over the time of the build.
func (p *page) chart() {
	p.printf("<h2>Steps over time</h2>\n<p class=legend>")
	for _, l := range [][2]string{
		{"run", "ran"}, {"pull", "pulled"}, {"push", "pushed"}, {"cached", "from the cache"}, {"failed", "failed"}, {"canceled", "cancelled"}, {"run critical", "on the critical path: what the build has waited for"},
	} {
		p.printf(`<span><i class="bar %s"></i>%s</span>`, l[0], l[1])
	}
	p.printf("</p>\n<div class=chart>\n")
	p.axis()
	for _, stage := range p.trace.Stages() {
		p.printf("<details open><summary>%s <small>%s</small></summary>\n", text(stage.Name), text(summary(stage)))
		for _, s := range stage.Steps {
			p.row(s)
		}
		p.printf("</details>\n")
	}
	p.printf("</div>\n")
}

// summary counts the steps of a stage.
func summary(stage Stage) string {
	cached := 0
	var work time.Duration
	for _, s := range stage.Steps {
		if s.State == event.Cached {
			cached++
		}
		if s.ran() {
			work += s.Work()
		}
	}
	text := fmt.Sprintf("%d from the cache", cached)
	if cached == len(stage.Steps) {
		text = "all from the cache"
	}
	if work > 0 {
		text += ", " + short(work) + " at work"
	}
	return fmt.Sprintf("%d steps, %s", len(stage.Steps), text)
}

// axis draws the marks of time.
func (p *page) axis() {
	unit := tick(p.whole)
	p.printf("<div class=axis><span></span><div>")
	for at := time.Duration(0); at <= p.whole; at += unit {
		p.printf(`<b style="left:%.2f%%">%s</b>`, p.percent(at), mark(at, p.whole))
	}
	p.printf("</div></div>\n")
}

// tick is a round distance of marks of which a chart has about eight.
func tick(whole time.Duration) time.Duration {
	for unit := time.Millisecond; ; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if whole <= 8*n*unit {
				return n * unit
			}
		}
	}
}

// mark is a time on the axis, in the unit of the whole.
func mark(at, whole time.Duration) string {
	switch {
	case whole < time.Second:
		return fmt.Sprintf("%dms", at.Milliseconds())
	case whole >= 2*time.Minute:
		return fmt.Sprintf("%d:%02d", int(at.Minutes()), int(at.Seconds())%60)
	}
	return fmt.Sprintf("%gs", at.Seconds())
}

func (p *page) percent(d time.Duration) float64 { return 100 * share(d, p.whole) }

// row draws one step.
func (p *page) row(s *Step) {
	class, label := s.class(), short(s.Work())
	switch s.State {
	case event.Cached:
		label = "cached"
	case event.Planned:
		label = "not reached"
	}
	left, width := 0.0, 0.0
	if !s.Start.IsZero() {
		left, width = min(p.percent(s.Start.Sub(p.trace.Start)), 100), p.percent(s.Work())
	}
	side := "" // of the bar, on which its label is
	if left+width > 75 {
		side = " before"
	}
	p.printf(`<div class="row" title="%s"><span>%s</span><div><i class="bar %s" style="left:%.3f%%;width:max(3px,%.3f%%)"></i><em class="%s" style="%s">%s</em></div></div>`+"\n",
		text(strings.Join(append([]string{s.title()}, s.facts()...), " · ")), text(s.title()), class, left, width,
		strings.TrimSpace("label"+side), labelAt(left, width, side != ""), label)
}

// labelAt puts a label to the right of a bar, or to its left where there is no room.
func labelAt(left, width float64, before bool) string {
	if before {
		return fmt.Sprintf("right:calc(%.3f%% + 6px)", 100-left)
	}
	return fmt.Sprintf("left:calc(%.3f%% + 8px)", left+width)
}

// class says how a bar looks.
func (s *Step) class() string {
	class := "run"
	switch {
	case s.State == event.Cached:
		class = "cached"
	case s.State == event.Failed:
		class = "failed"
	case s.State == event.Canceled:
		class = "canceled"
	case s.State == event.Planned:
		class = "planned"
	case s.Kind == event.Base:
		class = "pull"
	case s.Kind == event.Push:
		class = "push"
	}
	if s.Critical {
		class += " critical"
	}
	return class
}

// facts is what is known of a step, in short sentences.
func (s *Step) facts() []string {
	var facts []string
	add := func(format string, args ...any) { facts = append(facts, fmt.Sprintf(format, args...)) }
	switch s.State {
	case event.Cached:
		where := "from the cache"
		if s.Place != "" {
			where += " " + s.Place
		}
		if s.Kind == event.Base {
			where = "in the store"
		}
		add("%s", where)
		if s.Took > 0 {
			add("took %s when it ran", short(s.Took))
		}
	case event.Planned:
		add("not reached")
	default:
		add("%s, %s", s.State, short(s.Work()))
	}
	if s.Usage != nil {
		add("%s of processors, %s peak memory", short(s.Usage.CPU), size(s.Usage.Memory))
	}
	if s.Copied > 0 {
		add("%s copied", size(s.Copied))
	}
	if s.Bytes > 0 {
		add("layer %s", size(s.Bytes))
	}
	if s.Critical {
		add("on the critical path")
	}
	return facts
}

// table lists all that is known, step by step.
func (p *page) table() {
	p.printf("<h2>All steps</h2>\n<div class=scroll><table><thead><tr><th>#<th>Stage<th>Step<th>State<th class=n>Begins<th class=n>Takes<th class=n>Processors<th class=n>Peak memory<th class=n>Disk read<th class=n>Disk written<th class=n>Copied<th class=n>Layer<th>Why it ran</tr></thead><tbody>\n")
	for _, s := range p.trace.Steps() {
		state := string(s.State)
		if s.Place != "" {
			state += " by " + s.Place
		}
		begins, takes := "", ""
		if !s.Start.IsZero() {
			begins = short(s.Start.Sub(p.trace.Start))
		}
		if s.ran() {
			takes = short(s.Work())
		}
		cells := [6]string{}
		if u := s.Usage; u != nil {
			cells[0], cells[1], cells[2], cells[3] = short(u.CPU), size(u.Memory), some(u.Read), some(u.Written)
		}
		cells[4], cells[5] = some(s.Copied), some(s.Bytes)
		class := ""
		if s.Critical {
			class = ` class="critical"`
		}
		p.printf("<tr%s><td>%d<td>%s<td class=name>%s<td>%s<td class=n>%s<td class=n>%s", class, s.Number, text(s.Stage), text(s.Name), text(state), begins, takes)
		for _, c := range cells {
			p.printf("<td class=n>%s", c)
		}
		why := ""
		if s.Why != nil {
			why = strings.Join(s.Why.Lines(), "; ")
		}
		p.printf("<td class=why>%s</tr>\n", text(why))
	}
	p.printf("</tbody></table></div>\n")
}

// some is a size, or nothing if there is none.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return size(n)
}
