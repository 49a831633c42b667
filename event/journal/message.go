package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Types of events.
const (
	Container = "container"
	Image     = "image"
	Network   = "network"
	Volume    = "volume"
)

// A Message is one event, as docker's API writes it.
//
// Actions of containers are attach, commit, copy, create, destroy, detach, die, exec_create: COMMAND, exec_detach, exec_die,
// exec_start: COMMAND, export, health_status: STATUS, kill, oom, pause, prune, rename, resize, restart, start, stop, top,
// unpause and update. Images have delete, import, load, prune, pull, push, save, tag and untag; networks connect, create,
// destroy, disconnect and prune; volumes create, destroy, mount, prune and unmount.
type Message struct {
	// Status, ID and From repeat what is below, for old readers: of containers and images.
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`

	Type     string
	Action   string
	Actor    Actor
	Scope    string `json:"scope,omitempty"`
	Time     int64  `json:"time,omitempty"`     // in seconds since 1970
	TimeNano int64  `json:"timeNano,omitempty"` // in nanoseconds since 1970
}

// An Actor is what an event has happened to. Attributes of a container are its labels, image and name, and what the event is
// about: exitCode and execDuration in seconds of die, signal of kill, execID of the exec events, oldName of rename.
type Actor struct {
	ID         string // of an image, what it was called; of a volume, its name
	Attributes map[string]string
}

// Of makes an event of a type. The attributes are copied, the later ones over the earlier ones.
func Of(typ, action, id string, attributes ...map[string]string) Message {
	all := map[string]string{}
	for _, some := range attributes {
		maps.Copy(all, some)
	}
	m := Message{Type: typ, Action: action, Actor: Actor{ID: id, Attributes: all}, Scope: "local"}
	if typ == Container || typ == Image {
		m.Status, m.ID = action, id
	}
	if typ == Container {
		m.From = all["image"]
	}
	return m
}

// Line is the event as it is shown to people, with its time in a zone.
func (m Message) Line(zone *time.Location) string {
	text := fmt.Sprintf("%s %s %s %s", time.Unix(0, m.TimeNano).In(zone).Format("2006-01-02T15:04:05.000000000Z07:00"), m.Type, m.Action, m.Actor.ID)
	if len(m.Actor.Attributes) == 0 {
		return text
	}
	var attributes []string
	for _, key := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
		attributes = append(attributes, key+"="+m.Actor.Attributes[key])
	}
	return text + " (" + strings.Join(attributes, ", ") + ")"
}

// maxLine is the longest line of the journal, with its "\n".
const maxLine = 4096

// encode makes the line of an event. Of one that is too long, the longest attributes are cut, and then left out.
func (m Message) encode() ([]byte, error) {
	for {
		line, err := json.Marshal(m)
		if err != nil || len(line) < maxLine {
			return append(line, '\n'), err
		}
		longest := ""
		for _, key := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
			if len(key)+len(m.Actor.Attributes[key]) > len(longest)+len(m.Actor.Attributes[longest]) {
				longest = key
			}
		}
		if longest == "" {
			return nil, fmt.Errorf("event %s %.64s: too long", m.Type, m.Action)
		}
		m.Actor.Attributes = maps.Clone(m.Actor.Attributes)
		if value := m.Actor.Attributes[longest]; len(value) > 64 {
			m.Actor.Attributes[longest] = strings.ToValidUTF8(value[:len(value)/2], "")
		} else {
			delete(m.Actor.Attributes, longest)
		}
	}
}
