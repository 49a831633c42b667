package runtime

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A Host is what Start found out about this machine, kept for containers that are started after. The zero value knows nothing yet, a nil *Host
// finds out everything anew. It is for a command or a build: cgroups that are handed to this process later are not seen. Safe for
// concurrent use.
type Host struct {
	mu      sync.Mutex // guards what follows
	cgroups *cgroupParent
	swept   bool
	filters map[uint64]compiled // of the default profile, by capabilities
}

// A compiled is a seccomp filter. Nobody changes it.
type compiled struct {
	prog  []unix.SockFilter
	flags uint
}

// findCgroups is findCgroups, asked once.
func (h *Host) findCgroups() (*cgroupParent, error) {
	if h == nil {
		return findCgroups()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cgroups == nil {
		p, err := findCgroups()
		if err != nil {
			return nil, err
		}
		h.cgroups = p
	}
	return h.cgroups, nil
}

// sweep removes the cgroups of callers that were killed, once.
func (h *Host) sweep(p *cgroupParent) {
	if h != nil {
		h.mu.Lock()
		swept := h.swept
		h.swept = true
		h.mu.Unlock()
		if swept {
			return
		}
	}
	p.sweep()
}

// seccompFilter compiles the filter for a container with the capabilities, the default one once for each set of them. No
// program is no filter.
func (h *Host) seccompFilter(sec *Security, caps uint64) (c compiled, err error) {
	if h == nil || sec.Seccomp != "" || sec.Privileged {
		c.prog, c.flags, err = seccompFilter(sec, caps)
		return c, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.filters[caps]
	if ok {
		return c, nil
	}
	if c.prog, c.flags, err = seccompFilter(sec, caps); err != nil {
		return c, err
	}
	if h.filters == nil {
		h.filters = map[uint64]compiled{}
	}
	h.filters[caps] = c
	return c, nil
}
