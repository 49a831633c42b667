package forge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/forge-build/forge/cache/far"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
)

const (
	publicFor  = 24 * time.Hour  // that it is remembered whether everybody may read a repository
	publicTime = 2 * time.Second // that it is waited for
)

// warnPublic warns if everybody may read a repository that asks for a password of those who write, and layers were kept there that are in no
// image: those of build stages may hold what nobody was to see. It asks once a day, without a credential.
func (h *Home) warnPublic(ctx context.Context, r *BuildResult, t farTarget, records []remote.Record, keep []image.Layer) {
	stage := slices.IndexFunc(records, func(made remote.Record) bool {
		return !made.IsValue() && !slices.ContainsFunc(keep, func(l image.Layer) bool { return l.DiffID == made.Layer.DiffID })
	})
	ref := t.Place.Repository
	if stage < 0 || ref.Path == "" || !r.images.far.client.Challenged(ref) {
		return
	}
	key := sha256.Sum256([]byte("public\x00" + ref.Domain + "/" + ref.Path))
	if at, ok, err := h.remotes.Get(ctx, key); err == nil && ok && asked(at) < publicFor {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publicTime)
	defer cancel()
	ref.Tag = t.Tags[0]
	stranger := registry.NewClient(registry.Options{Credential: &registry.Credential{}, Insecure: r.images.remote.Insecure, Limits: far.Limits()})
	defer stranger.Close() //nolint:errcheck // of idle connections
	repo, err := stranger.Connect(ref)
	if err != nil {
		return
	}
	_, err = repo.Unmirrored().Resolve(ctx, ref) // who gives tokens may refuse a stranger one to push with
	if ctx.Err() != nil {
		return
	}
	_ = h.remotes.Put(ctx, key, []byte(time.Now().UTC().Format(time.RFC3339))) // else it is asked again
	if err != nil {
		return
	}
	r.images.remote.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf(
		"cache %s: everybody may read this repository, and it keeps layers of build stages that are in no image, such as that of %q; "+
			"name a private one with --cache, or keep only the image's with --cache-to type=registry,ref=NAME,mode=min",
		t.Scope, records[stage].Name)})
}

// asked is how long ago it was asked; long, if that cannot be read.
func asked(at []byte) time.Duration {
	then, err := time.Parse(time.RFC3339, string(at))
	if err != nil {
		return publicFor
	}
	return time.Since(then).Abs()
}
