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
	lines lines
}

// same reports whether two files are one, of which one may have been compressed since the other one was opened. An inode
// alone says nothing about a compressed file: it belongs to another file as soon as the original is removed.
func (f *file) same(g *file) bool {
	if f.inode != g.inode || f.zip == nil && g.zip == nil {
		return f.inode == g.inode
	}
	for _, one := range []*file{f, g} {
		if info, err := one.Stat(); err == nil && one.zip == nil {
			one.last = info.ModTime()
		}
	}
	return f.last.Equal(g.last)
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
	var h header
	if json.Unmarshal(z.Extra, &h) != nil || h.LastTime.IsZero() {
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		h.LastTime = info.ModTime()
	}
	return &file{File: f, inode: h.Inode, last: h.LastTime, zip: z, lines: lines{from: z}}, nil
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
// Files may be rotated meanwhile. They only move from lower to higher places, as this function does, so it misses none;
// one that it meets twice is left out.
func openNewer(path string, than *file) (files []*file, there bool, err error) {
	for n, last := 0, -1; ; n++ {
		if n > last {
			if last = highest(path); n > last {
				return files, than == nil, nil
			}
		}
		f, err := openFile(path, n)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, false, errors.Join(err, closeAll(files))
		case than != nil && than.same(f):
			return files, true, f.Close()
		case len(files) > 0 && files[len(files)-1].same(f):
			err = f.Close()
		default:
			files = append(files, f)
		}
		if err != nil {
			return nil, false, errors.Join(err, closeAll(files))
		}
	}
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
func (f *file) current(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && f.zip == nil && inode(info) == f.inode, err
}

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
