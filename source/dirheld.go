package source

import (
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// heldDirs keeps the directories open in which files were opened last. A file is found in its directory in half the time that the way from
// the root takes, on which each component is looked at. Safe for concurrent use.
type heldDirs struct {
	mu   sync.Mutex // guards all below, and users
	dirs [8]*heldDir
	next int // the one that goes next
}

// A heldDir is an open directory.
type heldDir struct {
	node  *dirNode
	fd    int
	users int // who opens a file in it; heldDirs is one
}

// take opens a directory, or finds it open. The caller gives it back.
func (h *heldDirs) take(n *dirNode, open func() (int, error)) (*heldDir, error) {
	h.mu.Lock()
	for _, dir := range h.dirs {
		if dir != nil && dir.node == n {
			dir.users++
			h.mu.Unlock()
			return dir, nil
		}
	}
	h.mu.Unlock()
	fd, err := open()
	if err != nil {
		return nil, err
	}
	dir := &heldDir{node: n, fd: fd, users: 2}
	h.mu.Lock()
	old := h.dirs[h.next]
	h.dirs[h.next] = dir
	h.next = (h.next + 1) % len(h.dirs)
	h.mu.Unlock()
	h.give(old)
	return dir, nil
}

// give gives a directory back. The last one closes it.
func (h *heldDirs) give(dir *heldDir) {
	if dir == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if dir.users--; dir.users == 0 {
		_ = unix.Close(dir.fd)
	}
}

// close gives all of them back.
func (h *heldDirs) close() {
	for i := range h.dirs {
		h.give(h.dirs[i])
		h.dirs[i] = nil
	}
}

// openIn opens a file in a directory; a link is an error.
func (d *Dir) openIn(n *dirNode, name string) (int, error) {
	dir, err := d.tools.held.take(n, func() (int, error) {
		return d.openat(n.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	})
	if err != nil {
		return -1, err
	}
	defer d.tools.held.give(dir)
	for {
		fd, err := unix.Openat(dir.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
			continue
		}
		return -1, &fs.PathError{Op: "open", Path: path.Join(n.path, name), Err: err}
	}
}
