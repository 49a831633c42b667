package forge

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event/journal"
)

// An EventMessage is something that has happened to a container, an image, a network or a volume, as docker's API tells it.
type EventMessage = journal.Message

// An EventQuery says which events are wanted.
type EventQuery = journal.Query

// journal is the file of all events of the store.
func (h *Home) journal() journal.Journal { return journal.Open(filepath.Join(h.Dir, "events")) }

// Events shows what happens to containers, images, networks and volumes, in this process and in others, until the context
// ends or the query's time is over.
func (h *Home) Events(ctx context.Context, q EventQuery, show func(EventMessage) error) error {
	return h.journal().Read(ctx, q, show)
}

// containerEvent tells who follows events that something has happened to a container. Attributes come in pairs. That it cannot
// be told is no reason not to do it.
func (h *Home) containerEvent(r *containerRecord, action string, attributes ...string) {
	about := map[string]string{"image": r.Image, "name": r.Name}
	for i := 0; i+1 < len(attributes); i += 2 {
		about[attributes[i]] = attributes[i+1]
	}
	_ = h.journal().Record(context.Background(), journal.Of(journal.Container, action, r.ID, r.Config.Labels, about))
}

// imageEvent tells that something has happened to an image: what it was called, or its ID, and its name. The attributes are its labels
// besides, as long as it is there.
func (h *Home) imageEvent(action, id, name string) {
	ctx := context.Background()
	about := map[string]string{}
	var labels map[string]string
	if d := digest.Digest(id); d.Validate() == nil {
		if n, err := h.Layout.Take(ctx, id); err == nil {
			if img, err := h.Layout.AnyImage(ctx, n.Descriptor); err == nil {
				labels = img.Config.Config.Labels
			}
		}
	}
	if name != "" {
		about["name"] = name
	}
	_ = h.journal().Record(ctx, journal.Of(journal.Image, action, id, labels, about))
}

// pruneEvent tells that objects of a kind were pruned, and how many bytes that has freed.
func (h *Home) pruneEvent(kind string, bytes int64) {
	about := map[string]string{"reclaimed": strconv.FormatInt(bytes, 10)}
	_ = h.journal().Record(context.Background(), journal.Of(kind, "prune", "", about))
}

// networkEvent tells that something has happened to a network.
func (h *Home) networkEvent(name, id, action, container string) {
	about := map[string]string{"name": name, "type": "bridge"}
	if container != "" {
		about["container"] = container
	}
	_ = h.journal().Record(context.Background(), journal.Of(journal.Network, action, id, about))
}

// ParseEventQuery reads docker's flags of events; "" is no bound. Without both, what happens from now on is wanted: who is told that events
// are followed may do at once what he wants to hear of, before they are read.
func ParseEventQuery(since, until string, filters []string) (q EventQuery, err error) {
	for _, t := range []struct {
		text string
		at   *time.Time
	}{{since, &q.Since}, {until, &q.Until}} {
		if t.text == "" {
			continue
		}
		if *t.at, err = words.ParseTime(t.text, time.Now()); err != nil {
			return q, err
		}
	}
	if q.Since.IsZero() && q.Until.IsZero() {
		q.Since = time.Now()
	}
	for _, f := range filters {
		if err := q.Filter.Add(f); err != nil {
			return q, err
		}
	}
	return q, nil
}
