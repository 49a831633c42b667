package logs

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A file is one of a log's, open.
type file struct {
	*os.File
	inode uint64    // of the file as it was written; a compressed one has it in its header
	last  time.Time // when it was written last, as far as is known: no record is newer
	zip   *gzip.Reader
	head  []byte // of a compressed file: how it begins
	lines lines
}

// same reports whether two files are one, of which one may have been compressed since the other one was opened. The inode
// of a compressed file belongs to another file as soon as the original is removed: so their beginnings are compared, too,
// in which the time of a record stands.
func (f *file) same(g *file) bool {
	if f.inode != g.inode || f.zip == nil && g.zip == nil {
		return f.inode == g.inode
	}
	if f.zip == nil {
		f, g = g, f
	}
	other := g.head
	if g.zip == nil {
		other = make([]byte, len(f.head))
		n, _ := g.ReadAt(other, 0)
		other = other[:n]
	}
	return len(f.head) > 0 && bytes.Equal(f.head, other)
}

// openFile opens the n-th file of a log, compressed or not.
func openFile(path string, n int) (*file, error) {
	f, err := os.Open(name(path, n))
	if errors.Is(err, fs.ErrNotExist) && n > 0 {
		return openCompressed(name(path, n) + gz)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{File: f, inode: inode(info), last: info.ModTime(), lines: lines{from: f}}, nil
}

func openCompressed(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil { // a header that was cut off: nothing can be read from it
		return nil, errors.Join(fs.ErrNotExist, f.Close())
	}
	c := &file{File: f, zip: z, lines: lines{from: z}}
	var h header
	if json.Unmarshal(z.Extra, &h) != nil || h.LastTime.IsZero() {
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		h.LastTime = info.ModTime()
	}
	c.inode, c.last, c.head = h.Inode, h.LastTime, make([]byte, 512)
	n, _ := io.ReadFull(z, c.head) // less if it is short or cut off
	c.head = c.head[:n]
	if err := c.again(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// again makes ready to read the file from its beginning once more.
func (f *file) again() error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if f.zip == nil {
		f.lines = lines{from: f.File}
		return nil
	}
	f.lines = lines{from: f.zip}
	return f.zip.Reset(f.File)
}

// openNewer opens the files of a log that are newer than one of them, of which it reports whether it is still there; nil
// asks for all. They come from the newest to the oldest.
//
// Files may be rotated meanwhile. When that has moved the newest one, it begins again. In a storm of rotations it stops
// after some attempts at the files that it could open: the others are about to be dropped.
func openNewer(path string, than *file) (files []*file, there bool, err error) {
	for range 100 {
		if err := closeAll(files); err != nil {
			return nil, false, err
		}
		var moved bool
		files, there, moved, err = openStill(path, than)
		switch {
		case moved:
		case err != nil:
			return nil, false, errors.Join(err, closeAll(files))
		default:
			return files, there, nil
		}
	}
	return files, false, nil
}

// openStill is one attempt of openNewer. It ends when the newest file has moved. Before that, all others can have moved one
// place on: so a file may be met twice in a row, and a place may be empty.
func openStill(path string, than *file) (files []*file, there, moved bool, err error) {
	newest := uint64(0) // inode of the newest file, which is open: so no other file can get it
	for n, last := 0, -1; ; n++ {
		if n > last {
			if last = highest(path); n > last {
				return files, than == nil, inodeAt(path) != newest, nil
			}
		}
		f, err := openFile(path, n)
		if err == nil && n == 0 {
			newest = f.inode
		}
		if moved := inodeAt(path) != newest; moved || err != nil && !errors.Is(err, fs.ErrNotExist) {
			if f != nil {
				err = f.Close()
			}
			return files, false, moved, err
		}
		switch {
		case f == nil:
			continue
		case than != nil && than.same(f):
			return files, true, false, f.Close()
		case len(files) > 0 && files[len(files)-1].same(f):
			err = f.Close()
		default:
			files = append(files, f)
		}
		if err != nil {
			return files, false, false, err
		}
	}
}

// inodeAt is the inode of what a path names; 0 if that is nothing.
func inodeAt(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return inode(info)
}

// highest is the highest place that a file of the log has; -1 if there is none.
func highest(path string) int {
	last := -1
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return last
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(path))
		if ok && rest == "" {
			last = max(last, 0)
		} else if digits, dot := strings.CutPrefix(strings.TrimSuffix(rest, gz), "."); ok && dot {
			if n, err := strconv.Atoi(digits); err == nil {
				last = max(last, n)
			}
		}
	}
	return last
}

func closeAll(files []*file) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// seekTail makes ready to read the last n lines of the file, and returns how many there are. What follows the last "\n"
// is part of no line.
func (f *file) seekTail(n int) (int, error) {
	if f.zip != nil {
		return f.skipTo(n)
	}
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	ends := 0 // of lines, from the end of the file
	for at > 0 {
		part := buf[:min(int64(len(buf)), at)]
		at -= int64(len(part))
		if _, err := f.ReadAt(part, at); err != nil {
			return 0, err
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if ends == n {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return n, err
			}
			ends++
		}
	}
	return ends, f.again()
}

// skipTo is seekTail for a file that can only be read from its beginning.
func (f *file) skipTo(n int) (int, error) {
	total := 0
	for {
		if _, err := f.lines.next(); err != nil {
			break // the end, or what is damaged
		}
		total++
	}
	if err := f.again(); err != nil {
		return 0, err
	}
	for range total - n {
		if _, err := f.lines.next(); err != nil {
			return 0, err
		}
	}
	return min(n, total), nil
}

// stopHere makes the file end where it ends now, so that a reader does not run after a writer.
func (f *file) stopHere() error {
	if f.zip != nil {
		return nil
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		f.lines.from = io.NewSectionReader(f.File, at, info.Size()-at)
	}
	return err
}

// current reports whether the file is the one that is written to.
func (f *file) current(path string) bool { return f.zip == nil && inodeAt(path) == f.inode }

// emptied reports whether somebody has cut off what was read of the file already; it is then read from its beginning.
func (f *file) emptied() (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || info.Size() >= at {
		return false, err
	}
	return true, f.again()
}
