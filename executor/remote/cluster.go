// Package remote has jobs done by the workers of a server of the Remote Execution API.
//
// A job becomes an action: files are this program, the job as JSON and the tars of its layers, and the command is "forge worker". A
// layer's tar is content that the server names by the very digest which images call diffID, so that what one action makes, the next
// one reads, and none of it passes through here. What has to be done on this machine, and all that the server is in trouble with, is
// done by a worker of this machine. Rules and protocol are in docs/remote.md.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/turn"
)

// A Policy says when jobs are done elsewhere.
type Policy string

// The policies.
const (
	Auto Policy = "auto" // what takes long, or nobody knows how long; in trouble here
	Only Policy = "only" // all that can be; trouble is an error
	Off  Policy = "off"
)

// Options of a [Cluster].
type Options struct {
	Policy   Policy
	Platform map[string]string // properties that workers have to have
	Network  map[string]string // properties that give an action a network; nil says that none do
	Timeout  time.Duration     // of an action; 0 is two hours
	Program  string            // file of this program; "" is the one that runs
	Events   event.Sink        // takes warnings and how steps stand; may be nil
}

const (
	defaultTimeout = 2 * time.Hour
	worth          = 2 * time.Second // a step that takes less is done here
	preparing      = 128             // jobs that are looked up and sent at once: more of them take memory and are no faster
)

// A Cluster is a server as a build uses it, from its first step to the last output. Safe for concurrent use.
type Cluster struct {
	client  *reapi.Client
	options Options

	once    sync.Once
	program reapi.Blob
	err     error // of program
	sizes   sizes
	prepare *turn.Queue
	ahead   ahead

	mu      sync.Mutex                   // guards all below
	made    map[digest.Digest]*chain     // layers that actions have made, and what follows them; nil is nothing
	chains  []*chain                     // that are followed
	lost    map[digest.Digest]int        // how often they could not be had, or were something else; of one, no answer is believed unasked
	sending map[reapi.Digest]*sync.Mutex // held by who sends a blob, so that others wait for it and do not send it, too
	down    error                        // why the server is not asked any more
}

// New returns a cluster. It asks for nothing yet.
func New(client *reapi.Client, o Options) *Cluster {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return &Cluster{client: client, options: o, prepare: turn.New(preparing), made: map[digest.Digest]*chain{}, lost: map[digest.Digest]int{}, sending: map[reapi.Digest]*sync.Mutex{}}
}

// String is what to call it.
func (c *Cluster) String() string { return c.client.String() }

// Made reports whether an action has made a layer: the server has it.
func (c *Cluster) Made(l image.Layer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, tar := c.made[l.DiffID]
	_, blob := c.made[l.Blob.Digest]
	return tar || blob
}

// keep notes that an action has made a layer.
func (c *Cluster) keep(l image.Layer, by *action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made[l.DiffID] = by.chain
	by.chain.follow(by)
}

// Forget notes that a layer cannot be had of the server, or is not what its name says. It is made again.
func (c *Cluster) Forget(l image.Layer, err error) {
	text := "is gone"
	if !errors.Is(err, fs.ErrNotExist) {
		text = err.Error()
	}
	c.warn("%s: layer %s: %s; its step is done again", c, l.DiffID, text)
	c.client.Forget(digestOf(l))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[l.DiffID]++
	delete(c.made, l.DiffID)
}

// doubts reports whether the server has named a layer that it did not have.
func (c *Cluster) doubts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lost) > 0
}

// lostBefore is how often a layer could not be had.
func (c *Cluster) lostBefore(d digest.Digest) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost[d]
}

// trouble notes that the server cannot be used. The first time, it is told.
func (c *Cluster) trouble(err error) {
	c.mu.Lock()
	first := c.down == nil
	if first {
		c.down = err
	}
	c.mu.Unlock()
	if first {
		c.warn("remote execution: %v; the build goes on here", err)
	}
}

// Down is why the server is not asked any more; nil if it is.
func (c *Cluster) Down() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
}

func (c *Cluster) warn(format string, args ...any) {
	c.options.Events.Send(event.Event{Time: time.Now(), Kind: event.Warning, Text: fmt.Sprintf(format, args...)})
}

// digestOf is how the server knows the tar of a layer.
func digestOf(l image.Layer) reapi.Digest {
	return reapi.Digest{Hash: l.DiffID.Encoded(), Size: l.Blob.Size}
}

// hold keeps others from sending blobs. They are held in one order, so that nobody waits in a circle.
func (c *Cluster) hold(digests []reapi.Digest) (release func()) {
	digests = slices.Clone(digests)
	slices.SortFunc(digests, func(a, b reapi.Digest) int { return strings.Compare(a.Hash, b.Hash) })
	var held []*sync.Mutex
	for _, d := range slices.Compact(digests) {
		c.mu.Lock()
		m := c.sending[d]
		if m == nil {
			m = &sync.Mutex{}
			c.sending[d] = m
		}
		c.mu.Unlock()
		m.Lock()
		held = append(held, m)
	}
	return sync.OnceFunc(func() {
		for _, m := range held {
			m.Unlock()
		}
	})
}

// self is this program as content.
func (c *Cluster) self() (reapi.Blob, error) {
	c.once.Do(func() {
		path := c.options.Program
		if path == "" {
			path = "/proc/self/exe"
		}
		f, err := os.Open(path)
		if err != nil {
			c.err = err
			return
		}
		defer f.Close()
		d, err := digest.SHA256.FromReader(f)
		info, statErr := f.Stat()
		if c.err = errors.Join(err, statErr); c.err != nil {
			return
		}
		c.program = fileBlob(path, reapi.Digest{Hash: d.Encoded(), Size: info.Size()})
	})
	return c.program, c.err
}

// fileBlob is the content of a file.
func fileBlob(path string, d reapi.Digest) reapi.Blob {
	return reapi.Blob{Digest: d, Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err == nil && offset > 0 {
			_, err = f.Seek(offset, io.SeekStart)
		}
		return f, err
	}}
}
