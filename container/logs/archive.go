package logs

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/forge-build/forge/internal/durable"
)

// An archive is the files of a log that are written no more: path.1, the newest, to path.(files-1), each as it was
// written or with .gz, compressed.
//
// Compression never keeps the log waiting. A file that is rotated on while it is being compressed is found again by its
// inode, and one that has fallen out of the archive meanwhile is left alone.
type archive struct {
	path    string
	files   int        // of the log, with the one that is written to
	mu      sync.Mutex // held while files change their names; guards busy
	busy    bool       // a goroutine compresses
	running sync.WaitGroup
}

// name is the path of the n-th file; the 0-th is the one that is written to.
func name(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// shift moves every file one place on, the current one into the archive. Only the last one is removed. A file never
// moves to a lower place: whoever opens them in the order of the places misses none.
func (a *archive) shift() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = syscall.Unlink(name(a.path, a.files-1) + gz)
	_ = syscall.Unlink(name(a.path, a.files-1))
	for n := a.files - 1; n > 0; n-- {
		_ = durable.Move(name(a.path, n-1)+gz, name(a.path, n)+gz)
		_ = durable.Move(name(a.path, n-1), name(a.path, n))
	}
}

const gz = ".gz"

// compress sees to it that the files of the archive become compressed, soon.
func (a *archive) compress() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy {
		return
	}
	a.busy = true
	a.running.Go(func() {
		for a.compressOne() {
		}
		debug.FreeOSMemory() // the compressor needs more than all the rest of a monitor
	})
}

// compressOne compresses one file. It reports whether there may be more; on an error, such as a full disk, the next
// rotation tries again.
func (a *archive) compressOne() bool {
	from := a.next()
	if from == nil {
		return false
	}
	defer from.Close()
	err := deflate(from, a.path+gz+".tmp")
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		err = a.replace(from)
	}
	if err != nil {
		_ = os.Remove(a.path + gz + ".tmp")
		a.busy = false
	}
	return err == nil
}

// next opens the newest file that is not compressed; nil if there is none, and then nobody is busy any more.
func (a *archive) next() *os.File {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := 1; n < a.files; n++ {
		if f, err := os.Open(name(a.path, n)); err == nil {
			return f
		}
	}
	a.busy = false
	return nil
}

// replace puts the compressed file in the place that its original has now.
func (a *archive) replace(from *os.File) error {
	is, err := from.Stat()
	if err != nil {
		return err
	}
	for n := 1; n < a.files; n++ {
		there, err := os.Lstat(name(a.path, n))
		if err != nil || !os.SameFile(is, there) {
			continue
		}
		if err := durable.Move(a.path+gz+".tmp", name(a.path, n)+gz); err != nil {
			return err
		}
		return os.Remove(name(a.path, n))
	}
	return os.Remove(a.path + gz + ".tmp") // rotated away
}

// A header is what a compressed file says about its original, in the extra field of its gzip header. docker has the first
// field there.
type header struct {
	LastTime time.Time `json:"lastTime"` // no record is newer
	Inode    uint64    `json:"inode"`
}

func deflate(from *os.File, to string) (err error) {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if z.Extra, err = json.Marshal(header{info.ModTime().UTC(), inode(info)}); err != nil {
		return err
	}
	if _, err := io.Copy(z, from); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return durable.SyncFiles(out) // the original is removed next
}

func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// wait returns when nothing is being compressed.
func (a *archive) wait() { a.running.Wait() }
