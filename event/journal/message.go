package journal

import (
	"cmp"
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

	about map[string]string // of the attributes those that are no labels
}

// An Actor is what an event has happened to. Attributes of a container are its labels, image and name, and what the event is
// about: exitCode and execDuration in seconds of die, signal of kill, execID of the exec events, oldName of rename.
type Actor struct {
	ID         string // of an image, what it was called; of a volume, its name
	Attributes map[string]string
}

// Of makes an event of a type. The attributes are copied, the later ones over the earlier ones. The last ones are what the event is about,
// those before them labels.
func Of(typ, action, id string, attributes ...map[string]string) Message {
	all := map[string]string{}
	for _, some := range attributes {
		maps.Copy(all, some)
	}
	m := Message{Type: typ, Action: action, Actor: Actor{ID: id, Attributes: all}, Scope: "local"}
	if n := len(attributes); n > 0 {
		m.about = maps.Clone(attributes[n-1])
	}
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

// encode makes the line of an event. Of one that is too long, long texts are cut, and then attributes left out, of which an image can
// have a quarter of a million: labels before what the event is about, the longest first.
func (m Message) encode() ([]byte, error) {
	line, err := json.Marshal(m)
	if err != nil || len(line) < maxLine {
		return append(line, '\n'), err
	}
	if len(m.Actor.Attributes) <= maxLine/len(`"":"",`) { // else not all of them fit, however short
		for limit := maxLine / 2; limit > shortest; limit /= 2 {
			line, err := json.Marshal(m.cut(limit))
			if err != nil || len(line) < maxLine {
				return append(line, '\n'), err
			}
		}
	}
	return m.cut(shortest).encodeSome()
}

// shortest is the length in bytes to which texts of an event are cut at most.
const shortest = 64

// cut is the event with no text longer than a limit.
func (m Message) cut(limit int) Message {
	short := func(text string) string { return strings.ToValidUTF8(text[:min(len(text), limit)], "") }
	m.Action, m.Status, m.From = short(m.Action), short(m.Status), short(m.From)
	all := m.Actor.Attributes
	m.Actor.Attributes = make(map[string]string, len(all))
	for key, value := range all {
		m.Actor.Attributes[key] = short(value)
	}
	return m
}

// encodeSome is encode with those attributes that there is room for.
func (m Message) encodeSome() ([]byte, error) {
	all := m.Actor.Attributes
	m.Actor.Attributes = map[string]string{}
	line, err := json.Marshal(m)
	if err == nil && len(line) >= maxLine {
		err = fmt.Errorf("event %s %s: too long", m.Type, m.Action)
	}
	if err != nil {
		return nil, err
	}
	room := maxLine - 1 - len(line)
	for _, a := range m.inOrder(all) {
		pair, err := json.Marshal(map[string]string{a.key: a.value})
		if err != nil {
			return nil, err
		}
		if room -= len(pair); room < 0 { // braces are as long as the comma
			break
		}
		m.Actor.Attributes[a.key] = a.value
	}
	line, err = json.Marshal(m)
	return append(line, '\n'), err
}

type attribute struct{ key, value string }

// inOrder are attributes as they are to be kept.
func (m Message) inOrder(all map[string]string) []attribute {
	var labels, about []attribute
	for key, value := range all {
		if _, ok := m.about[key]; ok {
			about = append(about, attribute{key, value})
		} else {
			labels = append(labels, attribute{key, value})
		}
	}
	for _, list := range [][]attribute{labels, about} {
		slices.SortFunc(list, func(a, b attribute) int {
			return cmp.Or(cmp.Compare(len(a.key)+len(a.value), len(b.key)+len(b.value)), cmp.Compare(a.key, b.key))
		})
	}
	return append(about, labels...)
}
