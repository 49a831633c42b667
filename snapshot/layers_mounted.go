package snapshot

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// layerMounts holds what overlayfs stacks, made once per layer and process: detached EROFS mounts, or directories.
type layerMounts struct {
	mu sync.Mutex
	m  map[digest.Digest]*layerMount // guarded by mu
}

// A layerMount is made by the first who needs it; the others wait.
type layerMount struct {
	mu sync.Mutex
	fd int // -1 until made; guarded by mu
}

// get returns the descriptor for a layer, making it if there is none.
func (l *layerMounts) get(diffID digest.Digest, make func() (int, error)) (int, error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = map[digest.Digest]*layerMount{}
	}
	m := l.m[diffID]
	if m == nil {
		m = &layerMount{fd: -1}
		l.m[diffID] = m
	}
	l.mu.Unlock()

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fd >= 0 {
		return m.fd, nil
	}
	fd, err := make()
	if err != nil {
		return -1, err
	}
	m.fd = fd
	return fd, nil
}

// have returns the descriptor for a layer if it has been made.
func (l *layerMounts) have(diffID digest.Digest) (fd int, ok bool) {
	l.mu.Lock()
	m := l.m[diffID]
	l.mu.Unlock()
	if m == nil {
		return -1, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fd, m.fd >= 0
}

// close waits for the mounts that are being made.
func (l *layerMounts) close() error {
	l.mu.Lock()
	all := l.m
	l.m = nil
	l.mu.Unlock()
	var made []int
	for _, m := range all {
		m.mu.Lock()
		if m.fd >= 0 {
			made = append(made, m.fd)
		}
		m.fd = -1
		m.mu.Unlock()
	}
	return several(len(made), closedAtOnce, func(i int) error { return closeFD(made[i]) })
}

// closedAtOnce is how many mounts are taken apart side by side. For each the kernel waits until all processors have passed a certain point, and
// those who wait at the same time wait for the same.
const closedAtOnce = 16

// few is up to how many layers are mounted or unmounted one after the other.
const few = 4

// several calls f for 0 to n-1, in so many goroutines if there are more than a few.
func several(n, atOnce int, f func(i int) error) error {
	if n <= few {
		atOnce = 1
	}
	var g errgroup.Group
	var next atomic.Int64
	work := func() (err error) {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			err = errors.Join(err, f(i))
		}
		return err
	}
	for range min(n, atOnce) - 1 {
		g.Go(work)
	}
	return errors.Join(work(), g.Wait())
}
