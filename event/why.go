package event

import (
	"fmt"
	"strings"
	"time"
)

// A Why says why a step was not answered from the cache.
type Why struct {
	Reason  Reason    `json:"reason"`
	Before  time.Time `json:"before,omitzero"`   // when the nearest earlier answer was made, which Changes are since
	Changes []Change  `json:"changes,omitempty"` // in the order of the key
	More    int       `json:"more,omitempty"`    // changed files that Changes leave out
	Absent  []string  `json:"absent,omitempty"`  // why caches elsewhere gave no answer, in sentences
}

// A Reason is why a step is done.
type Reason string

// Reasons.
const (
	Asked   Reason = "asked"   // the cache was told not to answer
	Audited Reason = "audited" // to compare what it makes with the answer
	Unknown Reason = "unknown" // nothing like it was done before
	Changed Reason = "changed" // what it depends on is not what it was: Changes say what
	Gone    Reason = "gone"    // it was done before, and its layer is gone
)

// A Change is a part of what a step depends on that is not what it was.
type Change struct {
	// Field is what it is a part of: "env", "run", "base", "below", "file" and the other fields of a key.
	Field string `json:"field"`
	Name  string `json:"name,omitempty"` // of the variable, file, image or step
	How   How    `json:"how"`
	Old   string `json:"old,omitempty"` // a value, or the digest of a file or image
	New   string `json:"new,omitempty"`

	OldSize int64 `json:"oldSize,omitempty"` // of a file, bytes
	NewSize int64 `json:"newSize,omitempty"`
}

// How is how something has changed.
type How string

// Hows.
const (
	Added    How = "added"
	Removed  How = "removed"
	Replaced How = "replaced" // Old by New
	Moved    How = "moved"    // the same in another order
	Secret   How = "secret"   // replaced; its name says that the values are not to be shown
)

// String is for people: "env A: "1" → "2"".
func (c Change) String() string {
	what := c.Field
	if c.Field == "run" {
		what = "command"
	}
	if c.Name != "" {
		what += " " + c.Name
	}
	before, after := shown(c.Old, c.OldSize), shown(c.New, c.NewSize)
	switch c.How {
	case Added:
		if c.New != "" {
			return what + " is new: " + after
		}
		return what + " is new"
	case Removed:
		if c.Old != "" {
			return what + " is gone, it was " + before
		}
		return what + " is gone"
	case Moved:
		return what + " has another order"
	case Secret:
		return what + " has another value, which is not shown"
	}
	if before == after {
		return what + " has changed"
	}
	return what + ": " + before + " → " + after
}

// shown is a value for people: a digest is cut, and text is quoted.
func shown(value string, size int64) string {
	const digits, most = len("sha256:") + 12, 80
	var text string
	switch r := []rune(value); {
	case strings.HasPrefix(value, "sha256:"):
		text = value[:min(digits, len(value))]
	case len(r) > most:
		text = fmt.Sprintf("%q…", string(r[:most]))
	default:
		text = fmt.Sprintf("%q", value)
	}
	if size > 0 {
		text = fmt.Sprintf("%s (%d bytes)", text, size)
	}
	return text
}

// Lines are for people: the reason, and what has changed.
func (w *Why) Lines() []string {
	var lines []string
	switch w.Reason {
	case Asked:
		lines = append(lines, "the cache was told not to answer")
	case Audited:
		lines = append(lines, "the cache has an answer, which is compared with what the step makes now")
	case Unknown:
		lines = append(lines, "nothing like it was done before")
	case Gone:
		lines = append(lines, "it was done before, but its layer is gone")
	case Changed:
	}
	for _, c := range w.Changes {
		lines = append(lines, c.String())
	}
	if w.More > 0 {
		lines = append(lines, fmt.Sprintf("%d more files", w.More))
	}
	return append(lines, w.Absent...)
}
