// Package cache remembers which layer a fully described step produced, and why a question is new.
//
// A [Cache] is asked by keys of contents, so that it never has to be told that something changed. [Steps] is the one on disk; package
// remote puts it before those of other places. What is remembered of trees and of downloads is not an answer about a step, and is in a
// [Store] of its own.
package cache

import (
	"context"
	"time"

	"github.com/forge-build/forge/image"
)

// A Cache answers what was asked before. It may forget at any time. Safe for concurrent use.
//
// An error means that it could not be asked or told. Nothing is known then, and the caller goes on as if the cache were empty.
type Cache interface {
	// Get finds the entry of a key; false if there is none.
	Get(ctx context.Context, k Key) (Entry, bool, error)
	// Put remembers an entry, in the place of what was remembered for the key.
	Put(ctx context.Context, k Key, e Entry) error
	// Nearest finds the entry that is most like a question which has no answer: the one with the same name that has the most of
	// the fields, or, if none has the name, one of the same instruction.
	Nearest(ctx context.Context, name string, fields []Field) (Entry, bool, error)
	// Absent says in sentences for people what Nearest cannot: why there is no answer to a key, of a step called name, where others would
	// have left it. None is said where there is nothing to add.
	Absent(k Key, name string) []string
}

// An Entry is the remembered answer to a key. It names a layer and does not own it: without the layer it is no answer.
type Entry struct {
	Layer    image.Layer   `json:"layer"`
	Created  time.Time     `json:"created"`
	Duration time.Duration `json:"duration"`
	Name     string        `json:"name"` // the step's, for people and for Nearest
	Fields   []Field       `json:"fields"`
	Base     Base          `json:"base,omitzero"`
	Place    string        `json:"-"` // that has answered; "" is this machine
}

// A Base is the image that a step's stage begins with, as it is known to people; zero if it is the empty one. It is no part of the key, which has the layers.
type Base struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // of its manifest
}
