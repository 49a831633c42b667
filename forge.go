// Package forge joins the rooms: a [Home] is the state directory, opened, with what can be done in it.
//
// Read this first. Each flow reads as one line of docs/architecture.md: Build in build.go, Run in run.go, Push and Pull
// in remote.go.
package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source"
)

// A Home is an open state directory. What it uses is in a lease until Close, so that nobody prunes it meanwhile. Safe for
// concurrent use.
type Home struct {
	Dir    string
	Layout *image.Layout
	Cache  *cache.Steps

	digests   *cache.Store[string]          // of trees of layers
	downloads *cache.Store[source.Download] // what servers said of versions
	remotes   *cache.Store[[]byte]          // tables of far caches
	lists     *cache.Store[[]byte]          // of the files of mounts

	staging *image.Staging
	options Options

	unconnected sync.Once // people have been told that there is no network

	mu          sync.Mutex // guards all below
	snapshots   *snapshot.Store
	networks    []*network.Sandbox // not in use; see takeNetwork
	allNetworks *network.Store     // see Networks
	keepers     []*mountKeeper     // of builds whose cache mounts are not kept yet; see KeepMounts
	begun       []<-chan error     // see later
	servers     map[string]*reapi.Client
}

// A Snapshotter is a way to stack layers: erofs, overlay or copy.
type Snapshotter = snapshot.Kind

// Options for Open; the zero value works.
type Options struct {
	Dir         string                        // "" is defaultDir()
	Snapshotter Snapshotter                   // "" probes
	Started     func(int)                     // told the ID of each process that is left to keep a container, for a caller that lives on: it waits for them. May be nil
	Ready       func(id string) *ReadyMonitor // gives the monitor that waits for a container, or nil; it may be nil. See [Home.ReadyMonitor]
	Scratch     bool                          // the directory is this command's alone and goes with it: nothing in it waits for the disk
	Command     string                        // such as "build": what others are told who cannot prune what this one uses
}

// stateDir is the absolute path of a state directory.
func stateDir(dir string) (_ string, err error) {
	if dir == "" {
		if dir, err = defaultDir(); err != nil {
			return "", err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return dir, nil
}

// defaultDir is $FORGE_ROOT, else /var/lib/forge for root, else $XDG_DATA_HOME/forge or ~/.local/share/forge.
// Root of a user namespace is an ordinary user, unless it is root of the one around it, as in a container.
func defaultDir() (string, error) {
	if dir := os.Getenv("FORGE_ROOT"); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 && runtime.RootOutside() {
		return "/var/lib/forge", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "forge"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the store: %w; set FORGE_ROOT", err)
	}
	return filepath.Join(home, ".local/share/forge"), nil
}

// EnterUserNamespace makes the process of an ordinary user, or of a root that may not mount, root of a user namespace, where it
// can mount layers and start containers: of one that it shares with the other processes that use the state directory dir ("" is defaultDir()). The process executes
// its program again for that, so it is called before anything else happens. An error says why the process stays what it is.
func EnterUserNamespace(dir string) error {
	members := ""
	if runtime.NeedsUserNamespace() {
		dir, err := stateDir(dir)
		if err == nil {
			err = prepareDir(dir)
		}
		if err == nil { // else Open says what is wrong
			members = filepath.Join(dir, membersFile)
		}
	}
	return runtime.EnterUserNamespace(members)
}

// membersFile is locked by the processes of an ordinary user, which share a user namespace.
const membersFile = "userns"

// Rootless reports whether this is an ordinary user's process.
func Rootless() bool {
	rootless, _ := runtime.Rootless()
	return rootless
}

// Open opens the state directory, making it if there is none. A store of a version that is not known is refused.
func Open(ctx context.Context, o Options) (_ *Home, err error) {
	if o.Dir, err = stateDir(o.Dir); err != nil {
		return nil, err
	}
	if err := prepareDir(o.Dir); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	h := &Home{Dir: o.Dir, options: o}
	defer func() {
		if err != nil {
			_ = h.Close()
		}
	}()
	if err := h.checkVersion(); err != nil {
		return nil, err
	}
	if h.staging, err = image.OpenStaging(h.Dir); err != nil {
		return nil, err
	}
	h.staging.SetCommand(o.Command)
	if o.Scratch {
		h.staging.SetScratch()
	}
	if h.Layout, err = image.OpenLayout(h.Dir, h.staging); err != nil {
		return nil, err
	}
	if err := h.openCache(filepath.Join(h.Dir, "cache")); err != nil {
		return nil, err
	}
	return h, nil
}

// openCache opens what is remembered: answers about steps, and beside them digests of trees and versions of downloads.
func (h *Home) openCache(dir string) (err error) {
	if h.Cache, err = cache.OpenSteps(dir, h.Layout); err != nil {
		return err
	}
	if h.digests, err = cache.OpenStore[string](filepath.Join(dir, "trees")); err != nil {
		return err
	}
	if h.downloads, err = cache.OpenStore[source.Download](filepath.Join(dir, "downloads")); err != nil {
		return err
	}
	if h.lists, err = cache.OpenStore[[]byte](filepath.Join(dir, "files")); err != nil {
		return err
	}
	if h.remotes, err = cache.OpenStore[[]byte](filepath.Join(dir, "remote")); err != nil {
		return err
	}
	also := h.staging.Also
	h.Cache.Written, h.digests.Written, h.downloads.Written, h.lists.Written, h.remotes.Written = also, also, also, also, also
	return nil
}

// Snapshots opens the file systems of the store, once. Commands that need none do not pay for them.
func (h *Home) Snapshots() (*snapshot.Store, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snapshots != nil {
		return h.snapshots, nil
	}
	s, err := snapshot.Open(h.Dir, h.Layout, h.options.Snapshotter)
	if err != nil {
		return nil, err
	}
	h.snapshots = s
	return s, nil
}

// view opens the file system that layers are, without mounting it.
func (h *Home) view(ctx context.Context, layers []image.Layer) (*snapshot.View, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	return store.View(ctx, layers)
}

// later begins to do what nobody but Close waits for.
func (h *Home) later(do func() error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun = append(h.begun, done)
}

// Close gives the store back. What was staged and not published is discarded.
func (h *Home) Close() error {
	var errs []error
	h.mu.Lock()
	if h.snapshots != nil {
		errs = append(errs, h.snapshots.Close())
		h.snapshots = nil
	}
	for _, n := range h.networks {
		errs = append(errs, n.Close())
	}
	h.networks = nil
	begun := h.begun
	h.begun = nil
	for _, c := range h.servers {
		errs = append(errs, c.Close())
	}
	h.servers = nil
	h.mu.Unlock()
	if h.staging != nil {
		errs = append(errs, h.staging.Close())
	}
	for _, done := range begun {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}
