package ui

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/event"
)

// A Report is what a CI system is told of a build: remarks at lines of its build file, and a summary. It is a Display in front of
// another, and writes nothing itself until it is asked.
type Report struct {
	Display
	Root string // directory that paths of remarks are relative to; "" leaves them as they are

	state
	sources map[int]event.Source // of steps, by number
	remarks []remark
	outcome []string
	failure string
}

// A remark is about a line of a build file, or about the build if it has none.
type remark struct {
	event.Source
	failed      bool
	title, text string
}

// maxSummarySteps is how many steps a summary lists: what GitHub shows has a limit of 1 MiB.
const maxSummarySteps = 500

// Event takes an event in, and passes it on.
func (r *Report) Event(e event.Event) {
	r.Display.Event(e)
	r.apply(e)
	switch e.Kind {
	case event.Planned:
		if r.sources == nil {
			r.sources = map[int]event.Source{}
		}
		r.sources[e.Step.Number] = e.Source
	case event.Lint:
		rule, text, _ := strings.Cut(e.Text, ": ")
		r.remarks = append(r.remarks, remark{Source: e.Source, title: rule, text: text})
	case event.Failed:
		text := e.Error
		if e.Text != "" {
			text += "\n" + e.Text
		}
		r.remarks = append(r.remarks, remark{Source: r.sources[e.Step.Number], failed: true, title: oneLine(e.Step.Name), text: text})
	}
}

// Close is the end of the build.
func (r *Report) Close(outcome ...string) {
	r.outcome = outcome
	r.Display.Close(outcome...)
}

// Fail says why there is no image, if no step has.
func (r *Report) Fail(err error) {
	r.failure = err.Error()
	if !slices.ContainsFunc(r.remarks, func(m remark) bool { return m.failed }) {
		r.remarks = append(r.remarks, remark{failed: true, title: "forge", text: r.failure})
	}
}

// path is that of a file, as people know it who see the repository.
func (r *Report) path(file string) string {
	absolute, err := filepath.Abs(file)
	if r.Root == "" || err != nil {
		return file
	}
	if rel, err := filepath.Rel(r.Root, absolute); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return file
}

// GitHub writes the remarks as commands of a workflow.
func (r *Report) GitHub(w io.Writer) error {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, m := range r.remarks {
		command := "warning"
		if m.failed {
			command = "error"
		}
		properties := []string{"title=" + property.Replace(Lines(m.title))}
		if m.File != "" && m.Line > 0 {
			properties = append(properties, "file="+property.Replace(r.path(m.File)), fmt.Sprintf("line=%d", m.Line))
			if m.End > m.Line {
				properties = append(properties, fmt.Sprintf("endLine=%d", m.End))
			}
		}
		if _, err := fmt.Fprintf(w, "::%s %s::%s\n", command, strings.Join(properties, ","), data.Replace(Lines(m.text))); err != nil {
			return err
		}
	}
	return nil
}

// GitLab writes the remarks as a report of code quality. Its documents have at least a path and a line.
func (r *Report) GitLab(w io.Writer) error {
	type lines struct {
		Begin int `json:"begin"`
	}
	type location struct {
		Path  string `json:"path"`
		Lines lines  `json:"lines"`
	}
	type issue struct {
		Description string   `json:"description"`
		CheckName   string   `json:"check_name"`
		Fingerprint string   `json:"fingerprint"`
		Severity    string   `json:"severity"`
		Location    location `json:"location"`
	}
	issues := []issue{}
	for _, m := range r.remarks {
		i := issue{CheckName: m.title, Severity: "minor", Location: location{r.path(cmp.Or(m.File, "Dockerfile")), lines{max(m.Line, 1)}}}
		if m.failed {
			i.Severity = "blocker"
		}
		i.Description, _, _ = strings.Cut(Lines(m.text), "\n")
		sum := sha256.Sum256([]byte(strings.Join([]string{i.CheckName, i.Location.Path, i.Description}, "\x00")))
		i.Fingerprint = hex.EncodeToString(sum[:])
		issues = append(issues, i)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(issues)
}

// Summary writes what came of the build, in Markdown.
func (r *Report) Summary(w io.Writer) error {
	var b strings.Builder
	title := "Build"
	if r.begin != nil && len(r.begin.Names) > 0 {
		title += " of " + strings.Join(r.begin.Names, ", ")
	}
	word := "succeeded"
	if r.failure != "" {
		word = "failed"
	}
	fmt.Fprintf(&b, "### %s %s\n\n", markdown(title), word)
	for _, line := range r.outcome {
		fmt.Fprintf(&b, "%s\n\n", markdown(line))
	}
	if r.failure != "" {
		fmt.Fprintf(&b, "%s\n\n", fence(r.failure))
	}
	if len(r.steps) > 0 {
		took := time.Duration(0)
		if r.end != nil {
			took = r.end.Duration
		}
		fmt.Fprintf(&b, "%d steps, %d cached, %d done, %d failed, %s\n\n", len(r.steps), r.count(cached), r.count(done), r.count(failed), seconds(took))
		path, total := r.critical()
		if total > 0 {
			fmt.Fprintf(&b, "Critical path: %s in steps %s\n\n", seconds(total), strings.Join(path, " → "))
		}
		b.WriteString("| step | | how | time |\n| ---: | --- | --- | ---: |\n")
		for _, of := range r.steps[:min(len(r.steps), maxSummarySteps)] {
			fmt.Fprintf(&b, "| #%d | `%s` | %s | %s |\n", of.Number, code(r.label(of.Step, fewDigits)), of.word(), of.time())
		}
		if more := len(r.steps) - maxSummarySteps; more > 0 {
			fmt.Fprintf(&b, "\nand %d more steps\n", more)
		}
	}
	for _, m := range r.remarks {
		if !m.failed {
			fmt.Fprintf(&b, "\n- %s: %s (%s:%d)", markdown(m.title), markdown(oneLine(m.text)), markdown(r.path(m.File)), m.Line)
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// critical is the chain of steps that took longest, each standing on the one before: with more processors the build takes this
// long. What was not done takes no time.
func (r *Report) critical() (path []string, total time.Duration) {
	longest, before := map[int]time.Duration{}, map[int]int{}
	last := 0
	for _, of := range r.steps { // a step stands on those of smaller numbers
		for _, n := range of.Needs {
			if n < of.Number && longest[n] > longest[before[of.Number]] {
				before[of.Number] = n
			}
		}
		longest[of.Number] = longest[before[of.Number]]
		if of.status == done || of.status == failed {
			longest[of.Number] += of.took
		}
		if longest[of.Number] > longest[last] {
			last = of.Number
		}
	}
	for n := last; n != 0; n = before[n] {
		if longest[n] > longest[before[n]] {
			path = append(path, fmt.Sprintf("#%d", n))
		}
	}
	slices.Reverse(path)
	return path, longest[last]
}

// word says how a step went.
func (of *step) word() string {
	return map[status]string{cached: "cached", done: "done", failed: "**failed**", canceled: "canceled", running: "running", waiting: "not reached"}[of.status]
}

func (of *step) time() string {
	if of.status != done && of.status != failed {
		return ""
	}
	return seconds(of.took)
}

// markdown is text that Markdown shows as it is.
func markdown(text string) string {
	var b strings.Builder
	for _, r := range oneLine(text) {
		if strings.ContainsRune("\\`*_[]<>|#&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// code is text for a cell of a table, between backquotes.
func code(text string) string {
	return strings.NewReplacer("`", "'", "|", `\|`).Replace(text)
}

// fence is text of many lines as it is.
func fence(text string) string {
	marks := "```"
	for strings.Contains(text, marks) {
		marks += "`"
	}
	return marks + "text\n" + strings.TrimRight(Lines(text), "\n") + "\n" + marks
}
