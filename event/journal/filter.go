package journal

import (
	"errors"
	"slices"
	"strings"

	"github.com/forge-build/forge/container/words"
)

// A Filter chooses events. Of several values for a key one must match, but all labels. The zero Filter chooses all.
type Filter map[string][]string

// Add adds a condition, as the flag --filter gives it: key=value. Keys are type, event, container, image, network and volume
// (by name, or the beginning of an ID or name), label (key or key=value) and scope.
func (f *Filter) Add(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("bad format of filter (expected name=value)")
	}
	key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
	switch key {
	case "type", "event", "container", "image", "network", "volume", "label", "scope":
	case "daemon", "plugin", "service", "node", "secret", "config": // docker's; there are no such events
	default:
		return words.Invalid("invalid filter '%s'", key)
	}
	if *f == nil {
		*f = Filter{}
	}
	(*f)[key] = append((*f)[key], value)
	return nil
}

// Match reports whether the filter chooses an event.
func (f Filter) Match(m Message) bool {
	event := f.exact
	for _, action := range []string{"health_status", "exec_create", "exec_start"} { // what follows them is not asked for
		if slices.Contains(f["event"], action) {
			event = f.prefix
		}
	}
	if !f.exact("type", m.Type) || !event("event", m.Action) || !f.exact("scope", m.Scope) {
		return false
	}
	for _, key := range []string{"daemon", Container, "plugin", Volume, Network, "node", "service", "secret", "config"} {
		if !f.prefix(key, m.Actor.ID, m.Actor.Attributes["name"]) {
			return false
		}
	}
	name := m.Actor.Attributes["image"]
	if m.Type == Image {
		name = m.Actor.Attributes["name"]
	}
	if !f.exact("image", m.Actor.ID, name, untagged(m.Actor.ID), untagged(name)) {
		return false
	}
	for _, label := range f["label"] {
		key, want, valued := strings.Cut(label, "=")
		if value, ok := m.Actor.Attributes[key]; !ok || valued && value != want {
			return false
		}
	}
	return true
}

// exact reports whether one of the words is a value of a key that has some.
func (f Filter) exact(key string, words ...string) bool {
	return f.any(key, words, func(word, value string) bool { return word == value })
}

// prefix reports whether one of the words begins with a value of a key that has some.
func (f Filter) prefix(key string, words ...string) bool { return f.any(key, words, strings.HasPrefix) }

func (f Filter) any(key string, words []string, match func(word, value string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], func(value string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return match(word, value) })
	})
}

// untagged is the short name of an image, without tag and digest.
func untagged(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
}
