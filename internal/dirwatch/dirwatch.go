// Package dirwatch waits until something changes among the files of a directory, with inotify(7).
package dirwatch

import (
	"context"
	"os"
	"syscall"
	"time"
)

// A Watcher is woken by what happens in one directory: files that are written to, made, or moved into it. It belongs to
// one goroutine.
type Watcher struct {
	events *os.File      // nil where the kernel lends no inotify instance
	woken  chan struct{} // holds one token while something has happened since the last Wait
}

// poll is how long a Watcher waits that the kernel tells nothing: the number of inotify instances of a user is limited.
const poll = 100 * time.Millisecond

// Open begins to watch a directory. It cannot fail: where inotify cannot be had, Wait ends every tenth of a second.
func Open(dir string) *Watcher {
	w := &Watcher{woken: make(chan struct{}, 1)}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return w
	}
	const mask = syscall.IN_MODIFY | syscall.IN_CREATE | syscall.IN_MOVED_TO | syscall.IN_DELETE_SELF | syscall.IN_ONLYDIR
	if _, err := syscall.InotifyAddWatch(fd, dir, mask); err != nil {
		_ = syscall.Close(fd)
		return w
	}
	w.events = os.NewFile(uintptr(fd), "inotify")
	go w.listen(w.events)
	return w
}

// listen turns events into tokens until the file is closed. What the events say does not matter: who is woken looks.
func (w *Watcher) listen(events *os.File) {
	buf := make([]byte, 4096)
	for {
		if _, err := events.Read(buf); err != nil {
			return
		}
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
}

// Wait returns when something has happened since the last Wait, or since Open; when stop is closed; when the context
// ends, with its cause; and after longest at the latest.
func (w *Watcher) Wait(ctx context.Context, stop <-chan struct{}, longest time.Duration) error {
	if w.events == nil {
		longest = min(longest, poll)
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.woken:
	case <-stop:
	case <-timer.C:
	}
	return nil
}

// Close ends the watch, and does not wait until it has ended: the kernel lets nobody go before all processors have passed a certain point
// (synchronize_srcu in fsnotify_wait_marks_destroyed), which takes it 5 ms.
func (w *Watcher) Close() {
	if w.events != nil {
		go w.events.Close()
	}
}
