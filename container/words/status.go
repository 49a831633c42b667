// Package words says things as docker says them: the columns of ps, refusals, exit statuses, names, times and detach keys.
//
// It is pure: it asks for no file, no clock and no container.
package words

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// A State is what a container does, as far as ps shows it.
type State struct {
	Status            string // created, running, paused, restarting, removing, exited or dead
	ExitCode          int    // of the last run
	Started, Finished time.Time
	Health            string // starting, healthy or unhealthy; "" if the container has no check
}

// Line is the column STATUS of ps.
func (s State) Line(now time.Time) string {
	switch s.Status {
	case "running":
		if s.Health == "" {
			return "Up " + age(now, s.Started)
		}
		return "Up " + age(now, s.Started) + " (" + strings.Replace(s.Health, "starting", "health: starting", 1) + ")"
	case "paused":
		return "Up " + age(now, s.Started) + " (Paused)"
	case "restarting":
		return fmt.Sprintf("Restarting (%d) %s", s.ExitCode, Ago(now, s.Finished))
	case "removing":
		return "Removal In Progress"
	case "dead":
		return "Dead"
	case "created":
		return "Created"
	}
	if s.Finished.IsZero() { // docker says nothing of a container that has ended at no time
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s", s.ExitCode, Ago(now, s.Finished))
}

// Ago is how long ago something was, as in the column CREATED.
func Ago(now, then time.Time) string { return age(now, then) + " ago" }

// age is a duration in docker's words. A clock that was set back makes it no time at all.
func age(now, then time.Time) string { return units.HumanDuration(max(0, now.Sub(then))) }

// Size is the column SIZE: what the container wrote, and with its image.
func Size(written, all int64) string {
	text := units.HumanSizeWithPrecision(float64(written), 3)
	if all > 0 {
		text += " (virtual " + units.HumanSizeWithPrecision(float64(all), 3) + ")"
	}
	return text
}

// Command is a command with its arguments in one line; an argument with a space in it stands in quotes.
func Command(path string, args []string) string {
	words := []string{path}
	for _, arg := range args {
		if strings.Contains(arg, " ") {
			arg = "'" + arg + "'"
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// Shorten cuts a text to n characters, of which the last is then an ellipsis; wide ones, as of Chinese, count twice.
func Shorten(text string, n int) string {
	cut, width := 0, 0
	for i, r := range text {
		w := 1
		if wide(r) {
			w = 2
		}
		if width += w; width <= n-1 {
			cut = i + len(string(r))
		}
	}
	if width <= n {
		return text
	}
	return text[:cut] + "…"
}

// wide reports whether a terminal shows a character in two columns: those of Unicode that are wide and often met.
func wide(r rune) bool {
	switch {
	case r >= 0x1100 && r <= 0x115f, // Hangul
		r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, // CJK, Kana, Yi
		r >= 0xac00 && r <= 0xd7a3,                // Hangul
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f900 && r <= 0x1f9ff, // signs and faces
		r >= 0x20000 && r <= 0x3fffd:
		return true
	}
	return false
}
