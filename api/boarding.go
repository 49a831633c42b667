package api

import (
	"slices"
	"sync"

	"github.com/forge-build/forge"
)

// boarding are those who have attached to containers that do not run yet, as docker's command line does before it starts one. Each has a
// connection to this server: so they are this server's, and nothing is lost with them that the connection is not.
type boarding struct {
	mu      sync.Mutex                     // guards waiting
	waiting map[string][]*forge.Attachment // by the container's ID
}

// add lets somebody wait for the start of a container.
func (b *boarding) add(id string, a *forge.Attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[string][]*forge.Attachment{}
	}
	b.waiting[id] = append(b.waiting[id], a)
}

// take returns all who wait for a container, which are attached now.
func (b *boarding) take(id string) []*forge.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.waiting[id]
	delete(b.waiting, id)
	return all
}

// leave takes one away, and reports whether it was still waiting.
func (b *boarding) leave(id string, a *forge.Attachment) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting[id], a)
	if i < 0 {
		return false
	}
	b.waiting[id] = slices.Delete(b.waiting[id], i, i+1)
	if len(b.waiting[id]) == 0 {
		delete(b.waiting, id)
	}
	return true
}
