// Package remote keeps answers about steps where other machines find them: in a repository of a registry, a directory, a bucket.
//
// What is kept under a name is an index of segments; a segment is a manifest of a table of records and of the layers that they
// name. A [Cache] reads the tables of the names that it trusts, answers from memory, and adds a segment after a build. Layers come
// when somebody needs them. Bytes and order of writing are in docs/cache.md.
//
// Nothing here makes a build fail: what cannot be read is as if it were not there.
package remote

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/forge-build/forge/image"
)

// A Place is where caches are kept. Names in it are tags, each of which can be given to something else at any time.
type Place struct {
	Name       string          // for people
	Identity   string          // that signatures are bound to; "" is Name
	Read       image.Store     // resolves and fetches
	Write      image.Store     // is pushed to, and asked what it has; nil if the place is only read
	Repository image.Reference // that tags belong to; zero in a store of tags alone
	Tags       Lister          // nil if the place cannot list its tags
}

// A Lister lists the tags of a place.
type Lister interface {
	Tags(ctx context.Context) ([]string, error)
}

// bound is what signatures in a scope of the place are bound to.
func (p *Place) bound(scope string) string { return bind(cmp.Or(p.Identity, p.Name), scope) }

// named is a tag of the place.
func (p *Place) named(tag string) image.Reference {
	r := p.Repository
	r.Tag, r.Digest = tag, ""
	return r
}

// tagPrefix begins the tags that scopes have.
const tagPrefix = "forge-cache-v1-"

// ScopeTag is the tag of a scope, whose name may have any characters and any length.
func ScopeTag(scope string) string {
	sum := sha256.Sum256([]byte(scope))
	return tagPrefix + hex.EncodeToString(sum[:10])
}
