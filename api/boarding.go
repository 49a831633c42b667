package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/forge-build/forge"
)

// boarding are those who have attached to containers that do not run yet, as docker's command line does before it starts one. Each has a
// connection to this server: so they are this server's, and nothing is lost with them that the connection is not.
type boarding struct {
	mu      sync.Mutex            // guards waiting
	waiting map[string][]*boarder // by the container's ID
}

// A boarder waits for the start of a container. He is known before the client is told that it is attached, since clients start the
// container then, and is complete when he is ready.
type boarder struct {
	ready      chan struct{}     // closed when he is attached, or is not
	attachment *forge.Attachment // nil if he is not
	gone       <-chan struct{}   // closed when his client is; nil cannot be seen
	left       bool              // he does not wait any more; guarded by boarding.mu
}

// announce makes somebody known who is about to be attached.
func (b *boarding) announce(id string) *boarder {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[string][]*boarder{}
	}
	who := &boarder{ready: make(chan struct{})}
	b.waiting[id] = append(b.waiting[id], who)
	return who
}

// boardTime is how long a start waits for those who are known: one may be shown a log first, and read nothing of it.
const boardTime = time.Second

// take returns all who wait for a container, and are to be attached when it starts. Who is not ready in time waits on.
func (b *boarding) take(id string) (all []*forge.Attachment) {
	b.mu.Lock()
	taken := b.waiting[id]
	delete(b.waiting, id)
	b.mu.Unlock()
	patience, cancel := context.WithTimeout(context.Background(), boardTime)
	defer cancel()
	var late []*boarder
	for _, who := range taken {
		select {
		case <-who.ready:
		case <-patience.Done():
		}
		select {
		case <-who.ready:
			if who.attachment != nil && !who.isGone() {
				all = append(all, who.attachment)
			}
		default:
			late = append(late, who)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, who := range late {
		if !who.left {
			b.waiting[id] = append(b.waiting[id], who)
		}
	}
	return all
}

// isGone reports whether he has left without a word: what he has not read is nobody's, and what he has sent does not end the input of others.
func (b *boarder) isGone() bool {
	select {
	case <-b.gone:
		return true
	default:
		return false
	}
}

// leave takes one away, and reports whether he was still waiting.
func (b *boarding) leave(id string, who *boarder) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	who.left = true
	i := slices.Index(b.waiting[id], who)
	if i < 0 {
		return false
	}
	b.waiting[id] = slices.Delete(b.waiting[id], i, i+1)
	if len(b.waiting[id]) == 0 {
		delete(b.waiting, id)
	}
	return true
}
