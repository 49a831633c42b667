package source

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
)

// ChangedFiles finds which files differ between the mounts whose digests a change names, at most so many, and how many do besides. Of a
// directory that is new or gone only itself is named. It finds none if the list of either mount is not kept.
func ChangedFiles(ctx context.Context, lists *cache.Store[[]byte], c event.Change, most int) (files []event.Change, more int, err error) {
	before, err := openList(ctx, lists, c.Old)
	if err != nil || before == nil {
		return nil, 0, err
	}
	after, err := openList(ctx, lists, c.New)
	if err != nil || after == nil {
		return nil, 0, err
	}
	named := "\x00" // the last directory that is new or gone: what is in it needs no words
	for before.file != nil || after.file != nil {
		a, b := nextPair(before, after)
		var name string
		switch {
		case a == nil:
			name = b.path
		case b == nil || *a != *b:
			name = a.path
		default:
			continue
		}
		if strings.HasPrefix(name, named+"/") {
			continue
		}
		if a.isDir() != b.isDir() {
			named = name
		}
		if len(files) == most {
			more++
			continue
		}
		change := changeOf(a, b)
		change.Name = path.Join(c.Name, name) + change.Name
		files = append(files, change)
	}
	return files, more, errors.Join(before.err, after.err)
}

// openList opens the list that is kept under a digest; nil if there is none.
func openList(ctx context.Context, lists *cache.Store[[]byte], digest string) (*listReader, error) {
	key, err := cache.ParseKey(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // it is no digest of a mount
	}
	list, ok, err := lists.Get(ctx, key)
	if err != nil || !ok {
		return nil, err
	}
	r := &listReader{rest: list}
	r.next()
	return r, nil
}

// nextPair is what two lists have at the next path, and goes past it. One of the two may be nil.
func nextPair(before, after *listReader) (a, b *listedFile) {
	a, b = before.file, after.file
	if a != nil && b != nil {
		switch order := strings.Compare(walkOrder(a.path), walkOrder(b.path)); {
		case order < 0:
			b = nil
		case order > 0:
			a = nil
		}
	}
	if a != nil {
		before.next()
	}
	if b != nil {
		after.next()
	}
	return a, b
}

// walkOrder is a text that is ordered among others as a walk orders paths: what is in a directory comes right after it.
func walkOrder(path string) string { return strings.ReplaceAll(path, "/", "\x00") }

func (f *listedFile) isDir() bool { return f != nil && f.mode&syscall.S_IFMT == syscall.S_IFDIR }

// changeOf says how a file has changed; the name is empty, or says in brackets what else than the content is another.
func changeOf(a, b *listedFile) event.Change {
	c := event.Change{Field: "file", How: event.Replaced}
	if a != nil {
		c.Old, c.OldSize = a.shown(), a.size
	} else {
		c.How = event.Added
	}
	if b != nil {
		c.New, c.NewSize = b.shown(), b.size
	} else {
		c.How = event.Removed
	}
	if a != nil && b != nil && c.Old == c.New && c.OldSize == c.NewSize {
		c.Name = " (" + strings.Join(otherwise(a, b), ", ") + ")"
	}
	return c
}

// shown is the content of a file for people: a digest, or where a link leads.
func (f *listedFile) shown() string {
	if f.mode&syscall.S_IFMT == syscall.S_IFREG {
		return fmt.Sprintf("sha256:%x", f.content)
	}
	return f.content
}

// otherwise says what of two files with the same content is not the same.
func otherwise(a, b *listedFile) (what []string) {
	if (a.mode^b.mode)&syscall.S_IFMT != 0 {
		what = append(what, "type")
	} else if a.mode != b.mode {
		what = append(what, "mode")
	}
	if a.uid != b.uid || a.gid != b.gid {
		what = append(what, "owner")
	}
	if a.extra != b.extra {
		what = append(what, "links or attributes")
	}
	return what
}
