// Package cache remembers which layer a fully described step produced, and why a question is new.
//
// A [Cache] is asked by keys of contents, so that it never has to be told that something changed. [Steps] is the one on disk;
// [Tiered] puts a near one before a far one. What is remembered of trees and of downloads is not an answer about a step, and is
// in a [Store] of its own.
package cache

import (
	"context"
	"errors"
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
}

// An Entry is the remembered answer to a key. It names a layer and does not own it: without the layer it is no answer.
type Entry struct {
	Layer    image.Layer   `json:"layer"`
	Created  time.Time     `json:"created"`
	Duration time.Duration `json:"duration"`
	Name     string        `json:"name"` // the step's, for people and for Nearest
	Fields   []Field       `json:"fields"`
}

// Tiered asks near first, and far for what near does not know. What far answers, near remembers; both are told what is new. One
// that fails does not keep the other from being asked: an answer is an answer, and else both errors are returned.
func Tiered(near, far Cache) Cache { return &tiered{near, far} }

type tiered struct{ near, far Cache }

func (t *tiered) Get(ctx context.Context, k Key) (Entry, bool, error) {
	e, ok, err := t.near.Get(ctx, k)
	if ok {
		return e, true, nil
	}
	e, ok, farErr := t.far.Get(ctx, k)
	if !ok {
		return Entry{}, false, errors.Join(err, farErr)
	}
	_ = t.near.Put(ctx, k, e) // else it is asked for again
	return e, true, nil
}

func (t *tiered) Put(ctx context.Context, k Key, e Entry) error {
	return errors.Join(t.near.Put(ctx, k, e), t.far.Put(ctx, k, e))
}

func (t *tiered) Nearest(ctx context.Context, name string, fields []Field) (Entry, bool, error) {
	e, ok, err := t.near.Nearest(ctx, name, fields)
	if ok {
		return e, true, nil
	}
	e, ok, farErr := t.far.Nearest(ctx, name, fields)
	if !ok {
		return Entry{}, false, errors.Join(err, farErr)
	}
	return e, true, nil
}
