// Package journal keeps docker's events: what happens to containers, images, networks and volumes, whoever does it.
//
// There is no daemon to ask, so the journal is a file: one line of JSON an event, which each process appends by itself with
// one write(2). A file of a megabyte is renamed to path.1, in the place of the one that was there: so about two megabytes
// of events are kept.
package journal

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// maxSize is the size in bytes from which on a file is rotated.
const maxSize = 1 << 20

// A Journal is the events of a state directory. It is safe for concurrent use, by processes too.
type Journal struct{ path string }

// Open returns the journal at path, which is made by the first event.
func Open(path string) Journal { return Journal{path} }

// Record adds events, in this order; those without a time get the present one. It is not durable: an event is news.
func (j Journal) Record(ctx context.Context, messages ...Message) (err error) {
	f, err := j.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var last [1]byte // somebody may have been killed, or the disk been full, in the middle of a line
	if _, err := f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
		if _, err := f.WriteString("\n"); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if m.TimeNano == 0 {
			m.TimeNano = time.Now().UnixNano()
		}
		m.Time = m.TimeNano / int64(time.Second)
		line, err := m.encode()
		if err != nil {
			return err
		}
		if _, err := f.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// open opens the file to append to it. Until it is closed nobody renames it: so a reader who finds another file at the path
// knows that this one has an end.
func (j Journal) open(ctx context.Context) (*os.File, error) {
	for {
		f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		usable, err := j.prepare(ctx, f)
		if usable && err == nil {
			return f, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// prepare locks a file against being renamed, or renames it if it is full. It reports whether events may be appended to it.
func (j Journal) prepare(ctx context.Context, f *os.File) (bool, error) {
	if err := flock.Wait(ctx, f, flock.Shared); err != nil {
		return false, err
	}
	info, err := f.Stat()
	if err != nil || info.Size() < maxSize {
		return flock.Same(f), err
	}
	err = flock.Try(f, flock.Exclusive)
	if err != nil && info.Size() < 2*maxSize { // others append to it: the next ones see to it
		err := flock.Wait(ctx, f, flock.Shared) // the attempt may have given it up
		return flock.Same(f), err
	}
	if err != nil {
		err = flock.Wait(ctx, f, flock.Exclusive)
	}
	if err != nil || !flock.Same(f) { // another one renamed it before the lock came
		return false, err
	}
	return false, durable.Move(j.path, j.path+".1")
}
