// Package snapshot keeps file systems: it mounts layers, reads them without mounting, lends writable drafts and turns
// changes into tar.
package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/forge-build/forge/image"
)

// STUBS: seams other rooms compile against.

// Changes is a set of changes to a tree, to be written as a layer with neither mount nor privilege.
type Changes struct{}

// NewChanges begins changes on top of below (nil: nothing lies below).
func NewChanges(below *View) *Changes { panic("stub") }

// Put sets path (resolved, clean, relative) to e with the content that open gives; open is nil for anything but regular
// files. Later Puts win. inode-equal entries of one tree added with the same group are hard links of each other.
func (c *Changes) Put(path string, e Entry, content Content) error { panic("stub") }

// Lookup finds a path in the changes or below.
func (c *Changes) Lookup(path string) (Entry, error) { panic("stub") }

// Resolve is Tree.Resolve over the changes and what lies below.
func (c *Changes) Resolve(path string, follow bool) (string, error) { panic("stub") }

// Remove hides path.
func (c *Changes) Remove(path string) error { panic("stub") }

// Content opens a regular file's content; Group and Inode tell hard links.
type Content struct {
	Open  func() (io.ReadCloser, error)
	Group string // "" has no hard links
}

// Commit writes the changes as a layer, staged.
func (s *Store) Commit(ctx context.Context, c *Changes, epoch *time.Time) (image.Layer, error) {
	panic("stub")
}
