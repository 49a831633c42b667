package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// An endpoint is where a repository is.
type endpoint struct {
	origin *origin
	path   string // of the repository at the origin
	mirror bool
	use    string // of a mirror: "" or all, or the only kind of name that it is asked for
	write  bool   // it is about to be written to: one token that allows that is enough for all
}

// home is the registry itself, which writes go to.
func (r *Repository) home() *endpoint { return r.ends[len(r.ends)-1] }

func (e *endpoint) pull() access {
	if e.write {
		return e.push()
	}
	return e.allow("pull")
}

func (e *endpoint) push() access { return e.allow("pull,push") }

func (e *endpoint) allow(actions string) access {
	return access{repo: e.path, scopes: []string{"repository:" + e.path + ":" + actions}}
}

func (e *endpoint) url(kind, ref string) string {
	return "/v2/" + e.path + "/" + kind + "/" + ref
}

// A nameKind is a kind of name, as registries.conf calls what a mirror is asked for.
type nameKind string

const (
	byDigest nameKind = "digest-only"
	byTag    nameKind = "tag-only"
)

// fit reports whether the endpoint is to be asked for a reference of this kind.
func (e *endpoint) fit(k nameKind) bool {
	return !e.mirror || e.use == "" || e.use == "all" || e.use == string(k)
}

// try asks the endpoints in turn until one answers. The registry's own error is the one that is told.
func (r *Repository) try(ctx context.Context, k nameKind, f func(*endpoint) error) error {
	var errs []error
	for _, e := range r.order() {
		if !e.fit(k) {
			continue
		}
		err := f(e)
		if err == nil {
			r.mu.Lock()
			r.last = e
			r.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return fmt.Errorf("%s: no mirror of it may be asked for this kind of name", r.Name())
	}
	return errs[len(errs)-1]
}

// blobPlaces is where a blob was had from.
type blobPlaces struct {
	last     *endpoint
	rejected int         // how often last has given the wrong content
	wrong    []*endpoint // that are not asked again
}

// placesOf lists the endpoints to be asked for a blob: not those that have given wrong content for it.
func (r *Repository) placesOf(d digest.Digest) []*endpoint {
	order := r.order()
	r.mu.Lock()
	defer r.mu.Unlock()
	var wrong []*endpoint
	if p := r.blobs[d]; p != nil {
		wrong = p.wrong
	}
	return slices.DeleteFunc(slices.Clone(order), func(e *endpoint) bool { return !e.fit(byDigest) || slices.Contains(wrong, e) })
}

// answeredBlob notes that e has begun to send a blob.
func (r *Repository) answeredBlob(d digest.Digest, e *endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = e
	p := r.blobs[d]
	if p == nil {
		if r.blobs == nil {
			r.blobs = map[digest.Digest]*blobPlaces{}
		}
		p = &blobPlaces{}
		r.blobs[d] = p
	}
	if p.last != e {
		p.last, p.rejected = e, 0
	}
}

// Reject is told that what was fetched of a blob, from its beginning, is not its content. It reports whether it is worth
// fetching again: from the same place or, if that is wrong a second time, from the next one. If so, the client's Events take a warning.
func (r *Repository) Reject(d digest.Digest) bool {
	wrong, next := r.reject(d)
	if next == "" {
		return false
	}
	wrong.origin.events.Send(event.Event{Time: time.Now(), Kind: event.Warning, Text: fmt.Sprintf("%s/%s: %s: %v; %s", wrong.origin.name, wrong.path, d, image.ErrMismatch, next)})
	return true
}

// reject returns who gave the wrong content of a blob, and who is asked now, "" if nobody is.
func (r *Repository) reject(d digest.Digest) (wrong *endpoint, next string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.blobs[d]
	if p == nil {
		return nil, ""
	}
	if p.rejected++; p.rejected == 1 {
		return p.last, "it is asked once more"
	}
	p.wrong = append(p.wrong, p.last)
	r.last = nil
	for _, e := range r.ends {
		if e.fit(byDigest) && !slices.Contains(p.wrong, e) {
			return p.last, "the next place is asked, " + e.origin.name + "/" + e.path
		}
	}
	delete(r.blobs, d) // a later fetch begins anew
	return nil, ""
}

// order puts who answered last before the others, and the registry itself always at the end of the rest.
func (r *Repository) order() []*endpoint {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if last == nil || len(r.ends) == 1 {
		return r.ends
	}
	order := []*endpoint{last}
	for _, e := range r.ends {
		if e != last {
			order = append(order, e)
		}
	}
	return order
}
