package logs

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/forge-build/forge/internal/dirwatch"
)

// Options say which records are read, and how they are shown.
type Options struct {
	Tail       int // how many records, counted from the end of those that are there; negative is all
	Since      time.Time
	Until      time.Time
	Timestamps bool // each record begins with its time
	Details    bool // each record has its attributes before its text, as key=value,…

	Follow bool            // goes on with what is written later, until Ended is closed
	Ended  <-chan struct{} // closed when nothing will be written any more; nil is never

	// Notice is told what cannot be shown, in a sentence; it may be nil.
	Notice func(text string)
}

// Read writes the records of the log at path to the streams that they came from; a stream that is nil is left out. A log
// that does not exist is empty.
//
// As docker does it, Tail counts before Since and Until choose, and a line that is more than one record has a time before
// each of them. Lines that are no records are stepped over.
//
// To follow, Read remembers a file and its place in that, not the log's path: when the path names another file, it reads
// the first to its end, and then whatever is newer. It returns when it has found the end of the newest file after Ended
// was closed or Until has passed, or with the context's cause.
func Read(ctx context.Context, path string, o Options, stdout, stderr io.Writer) error {
	r := &reader{ctx: ctx, path: path, Options: o, out: output{stdout: stdout, stderr: stderr}}
	if o.Follow {
		r.watch = dirwatch.Open(filepath.Dir(path))
		defer r.watch.Close()
	}
	files, _, err := openNewer(path, nil)
	if err != nil {
		return err
	}
	slices.Reverse(files)
	defer func() { _ = closeAll(r.files) }()
	r.files = files
	err = r.read()
	if r.damaged > 0 {
		r.notice(fmt.Sprintf("%d damaged lines of the log are not shown", r.damaged))
	}
	if flushed := r.out.flush(); err == nil {
		err = flushed
	}
	return err
}

// A reader is one Read.
type reader struct {
	Options
	ctx     context.Context
	path    string
	watch   *dirwatch.Watcher
	files   []*file // open, and not read to their end, from the oldest
	decoder decoder
	out     output
	damaged int
	rotated bool // more than one file was seen: a log of one file is never found again after a rotation
}

// notice comes behind what was read before it.
func (r *reader) notice(text string) {
	if r.Notice != nil {
		_ = r.out.flush() // which keeps its error
		r.Notice(text)
	}
}

func (r *reader) read() error {
	if err := r.skip(); err != nil {
		return err
	}
	if !r.Follow {
		return r.readOnce()
	}
	for {
		over := r.over() // asked first: what was written before the end is read after it
		if err := r.catchUp(); err != nil || over {
			return err
		}
		if err := r.out.flush(); err != nil {
			return err
		}
		longest := time.Second // for the case that the kernel tells nothing, as of files on another machine
		if !r.Until.IsZero() {
			longest = min(longest, max(0, time.Until(r.Until)))
		}
		if err := r.watch.Wait(r.ctx, r.Ended, longest); err != nil {
			return err
		}
	}
}

// readOnce shows what is there now.
func (r *reader) readOnce() error {
	for i, f := range r.files {
		if i == len(r.files)-1 {
			if err := f.stopHere(); err != nil {
				return err
			}
		}
		if err := r.drain(f); err != nil {
			return err
		}
	}
	return nil
}

// over reports whether nothing that is wanted will be written any more.
func (r *reader) over() bool {
	select {
	case <-r.Ended:
		return true
	default:
		return !r.Until.IsZero() && time.Now().After(r.Until)
	}
}

// skip steps over what Tail leaves out and over files that are older than Since. The newest file stays in any case.
func (r *reader) skip() error {
	left := r.Tail
	for i, f := range slices.Backward(r.files) {
		// The clock that dates files is some milliseconds behind.
		if i < len(r.files)-1 && (left == 0 || f.last.Add(time.Second).Before(r.Since)) {
			err := closeAll(r.files[:i+1])
			r.files = r.files[i+1:]
			return err
		}
		if r.Tail < 0 {
			continue
		}
		n, err := f.seekTail(left)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// drain shows the lines of a file up to its end.
func (r *reader) drain(f *file) error {
	for {
		line, err := f.lines.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil && f.zip != nil: // it was cut off
			r.damaged++
			return nil
		case err != nil:
			return err
		}
		if err := r.show(line); err != nil {
			return err
		}
	}
}

// catchUp reads to the end of the newest file, which is then the only one that is open.
func (r *reader) catchUp() error {
	for {
		for len(r.files) > 0 {
			f := r.files[0]
			if err := r.drain(f); err != nil {
				return err
			}
			if len(r.files) == 1 {
				break
			}
			r.files = r.files[1:]
			if err := f.Close(); err != nil {
				return err
			}
		}
		more, err := r.newer()
		if err != nil || !more {
			return err
		}
	}
}

// newer looks whether there is more to read than the file that was read last: newer files, or the same file from its
// beginning, because it was emptied. That file is to be read once more in any case, since what was written to it before
// it was rotated may have come after the last look.
func (r *reader) newer() (bool, error) {
	var last *file
	if len(r.files) > 0 {
		last = r.files[0]
		if last.current(r.path) {
			return last.emptied()
		}
	}
	files, there, err := openNewer(r.path, last)
	if err != nil || len(files) == 0 {
		return false, err
	}
	r.rotated = r.rotated || highest(r.path) > 0
	if !there && r.rotated {
		r.notice("records may have been rotated away before they could be shown")
	}
	slices.Reverse(files)
	r.files = append(r.files, files...)
	return true, nil
}

// show writes a line out, if it is a record that is wanted.
func (r *reader) show(line []byte) error {
	if err := r.ctx.Err(); err != nil {
		return context.Cause(r.ctx)
	}
	rec, ok := r.decoder.decode(line)
	if !ok {
		r.damaged++
		return nil
	}
	var at time.Time
	if r.Timestamps || !r.Since.IsZero() || !r.Until.IsZero() {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, string(rec.stamp)); err != nil {
			r.damaged++
			return nil
		}
	}
	if at.Before(r.Since) || !r.Until.IsZero() && at.After(r.Until) {
		return nil
	}
	buf := r.out.begin(rec.stream)
	if buf == nil {
		return r.out.err
	}
	if r.Timestamps {
		*buf = append(at.AppendFormat(*buf, "2006-01-02T15:04:05.000000000Z07:00"), ' ')
	}
	if r.Details {
		*buf = appendDetails(*buf, rec.attrs)
	}
	*buf = append(*buf, rec.text...)
	return nil
}
