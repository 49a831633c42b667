// Package mounts keeps the directories of cache mounts where other machines find them: in a registry, an OCI layout, or whatever
// else is an [image.Store].
//
// A directory becomes a tar ([snapshot.Export]), the tar becomes chunks ([chunk]), and chunks that are not there yet become one
// more pack: a blob of zstd frames, back to back. A table, the configuration of a manifest, says which chunks make the tar, and
// where in which pack each lies. Manifests have tags that are made of what the mount is, so that there is nothing to list.
//
// Nothing that comes from a store is believed: each chunk is held to its SHA-256, each length to a limit before memory is taken
// for it, and the tar is unpacked as an enemy's.
package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

// A Shelf is where the mounts of a build are kept: a place, and the scopes in it.
type Shelf struct {
	Place   *remote.Place
	Staging *image.Staging // keeps packs on disk while they come and go

	// Guard stops what is fetched when that disk is about to be full: it is [image.Layout.Guard].
	Guard func(ctx context.Context, w io.Writer) io.Writer

	// Read are the scopes that mounts are looked for in, the first first. Write is the only one that is written to.
	Read  []string
	Write string

	Key   *remote.Signer // signs what is written; nil signs nothing
	Trust remote.Trust   // what is read has to be signed by one of these; nil trusts everybody

	silent atomic.Bool

	mu    sync.Mutex             // guards wrong
	wrong map[digest.Digest]bool // packs of versions of which one had other content than it should: no save relies on them
}

// A Mount is what a directory is kept as: mounts that differ in anything are not each other's.
type Mount struct {
	ID       string // expanded
	Platform string // os/arch[/variant]
	Access   string // what owner and mode the mount asks for, and what it begins with
	Lock     string // digest of the files that decide what is in it, "" if nobody said which; see [Shelf.Find]
}

// tagPrefix begins the names of mounts.
const tagPrefix = "forge-mount-v1-"

// tag is the name of the newest directory of a mount in a scope.
func (m Mount) tag(scope string) string {
	h := sha256.New()
	for _, part := range []string{scope, m.ID, m.Platform, m.Access} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return tagPrefix + hex.EncodeToString(h.Sum(nil)[:10])
}

// exact is the name of the directory that was left with the very same lock files; "" without any.
func (m Mount) exact(scope string) string {
	if m.Lock == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(m.Lock))
	return m.tag(scope) + "-" + hex.EncodeToString(sum[:8])
}

// mountOf is the name of a mount, by a name of one of its directories.
func mountOf(tag string) string { return tag[:min(len(tag), len(tagPrefix)+20)] }

// Find finds what is kept of a mount: what was left with the same lock files in any of the scopes, else the newest of the first
// scope that has one. It is an error that is fs.ErrNotExist if there is none, and another one if there are only such as are damaged or, an error that is
// [remote.ErrUntrusted], such as nobody has signed who is trusted.
func (s *Shelf) Find(ctx context.Context, m Mount) (*Version, error) {
	var tags []string
	for _, scope := range s.Read {
		if exact := m.exact(scope); exact != "" {
			tags = append(tags, exact)
		}
	}
	for _, scope := range s.Read {
		tags = append(tags, m.tag(scope))
	}
	var useless error
	for _, tag := range tags {
		v, err := s.read(ctx, tag)
		switch {
		case errors.Is(err, remote.ErrUntrusted):
			useless = fmt.Errorf("%s: %w", tag, err)
		case errors.Is(err, errDamaged):
			useless = err
		case !errors.Is(err, fs.ErrNotExist):
			return v, err
		}
	}
	if useless != nil {
		return nil, useless
	}
	return nil, fmt.Errorf("cache mount %s: %w", m.ID, fs.ErrNotExist)
}

// FindInTime is Find for a build that waits for it: no longer than it waits for what else a cache says. A place that has not answered by then is asked no
// more, as if nothing were there.
func (s *Shelf) FindInTime(ctx context.Context, m Mount) (*Version, error) {
	if s.Silent() {
		return nil, fmt.Errorf("cache mount %s: the place did not answer: %w", m.ID, fs.ErrNotExist)
	}
	late := fmt.Errorf("no answer within %s", remote.Budget)
	limited, cancel := context.WithTimeoutCause(ctx, remote.Budget, late)
	defer cancel()
	v, err := s.Find(limited, m)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		s.silent.Store(true)
		return nil, late
	}
	return v, err
}

// Silent reports whether the place has not answered in time.
func (s *Shelf) Silent() bool { return s.silent.Load() }

func (s *Shelf) tagged(tag string) image.Reference {
	ref := s.Place.Repository
	ref.Tag, ref.Digest = tag, ""
	return ref
}

// distrust notes that a pack of a version, nobody knows which others, had other content than it should.
func (s *Shelf) distrust(v *Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == nil {
		s.wrong = map[digest.Digest]bool{}
	}
	for _, p := range v.packs {
		s.wrong[p.Digest] = true
	}
}

// trusts reports whether a save may rely on a pack that is there.
func (s *Shelf) trusts(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.wrong[d]
}

// distrusts reports whether there are packs that no save may rely on.
func (s *Shelf) distrusts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wrong) > 0
}
