package api

import (
	"context"
	"maps"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// children are the processes that keep containers and have been started here. They are waited for when they end, or they would stay as
// zombies until this process ends, which a command does at once and a server does not.
type children struct {
	mu   sync.Mutex // guards pids
	pids map[int]bool
}

// add remembers one.
func (c *children) add(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pids == nil {
		c.pids = map[int]bool{}
	}
	c.pids[pid] = true
}

// reapTime is how often is looked, whatever signals say: one that had ended before it was remembered has sent its signal by then.
const reapTime = time.Minute

// reap waits for those that have ended, until the context ends.
func (c *children) reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	tick := time.NewTicker(reapTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
		case <-tick.C:
		}
		c.mu.Lock()
		maps.DeleteFunc(c.pids, func(pid int, _ bool) bool {
			got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			return got == pid || err == syscall.ECHILD //nolint:errorlint // an error of a system call is the number itself
		})
		c.mu.Unlock()
	}
}
