// Package container prepares what one process needs and starts it: a root file system, mounts, a user, an environment,
// files in /etc, a network, secrets, agents, devices and limits become one [runtime.Spec], and one Close gives all of it
// back. RUN of a build and "forge run" are its two callers.
package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Factory prepares containers. It holds what they share and what the caller lets them use. Its exported fields are set
// before the first Prepare and not changed after. Safe for concurrent use; Close it when no Container is open any more.
type Factory struct {
	Snapshots *snapshot.Store
	Staging   *image.Staging // keeps /etc files and sockets while they are in use
	CacheDir  string         // where *Cache mounts keep their directories; "" refuses them
	Caches    CacheKeeper    // keeps them elsewhere, too; may be nil
	Secrets   []Secret
	SSH       []SSHSource
	Client    *Client // is asked for what is not in Secrets and SSH; nil asks nobody

	// Isolation is how processes are to be isolated: "auto", "namespaces" or "chroot"; "" is namespaces, untried.
	Isolation runtime.Isolation

	Events event.Sink // takes warnings: of each text one; may be nil. Several goroutines may send at once

	// Connect makes the network of a mode: "default", "none" or "host". Nil is a loopback interface in any mode but "host".
	Connect func(ctx context.Context, mode string) (Network, error)

	etc      etcFiles
	warned   sync.Map // texts
	isolated isolated
	host     runtime.Host
}

// warn sends a warning, unless it was sent before: that of one step of a build is mostly that of all.
func (f *Factory) warn(text string) {
	if _, before := f.warned.LoadOrStore(text, true); !before {
		f.Events.Send(event.Event{Time: time.Now(), Kind: event.Warning, Text: text})
	}
}

// Close gives back the files that containers share.
func (f *Factory) Close() error { return f.etc.close() }

// Options say what to prepare. The zero value of all but Root, Files and Process.Args works.
type Options struct {
	Root     *snapshot.Draft // root file system; not closed
	Files    filetree.Tree   // the same files, read without a mount; not closed; nil reads those of Root
	Process  Process
	Hostname string // "" is the machine's
	Domain   string // NIS domain name; "" is the machine's
	Etc      EtcStyle
	Hosts    []Host // more lines of /etc/hosts
	Network  string // "default", "none" or "host"
	Mounts   []Mount
	Devices  []Device
	Requests []DeviceRequest
	Limits   runtime.Limits
	Security runtime.Security
	Shared   runtime.Namespaces // those that are not the container's own
	Sysctls  map[string]string
}

// A Process is what a container runs.
type Process struct {
	Args     []string
	Env      []string // K=V; of several definitions the last counts, and K alone takes a variable away
	Dir      string   // absolute; made if it is missing; "" is "/"
	User     string   // USER of a build file: name or number, with an optional group; "" is root
	Platform string   // os/arch[/variant] of the files, for the words of a failure; "" is this machine's
	Terminal bool
	Groups   []string // more groups of the user, by name or number; only without Files
	Init     bool     // process 1 is one that reaps

	Rows, Cols uint16 // of the terminal at the start; 0 is not known
}

// A Mount is put at a path of a container: a *Bind, *Node, *Layers, *Tmpfs, *Cache, *SecretMount,
// *Agent or *Scripts.
type Mount interface {
	kind() string
	target() string // absolute and clean; "" if there is nothing to mount
	mount(ctx context.Context, c *Container) error
}

// A Container is prepared and can be started, and again when its process has ended. One goroutine at a time may call its methods.
type Container struct {
	Network Network // what it is connected to

	factory *Factory
	options *Options
	spec    runtime.Spec
	agent   bool                // SSH_AUTH_SOCK is that of an *Agent
	targets []mountTarget       // where mount points inside of a mount are made
	caches  map[string]*os.File // what is mounted of each cache, by name
	started []func() error      // called once the process runs: what is mounted needs no name any more
	etc     []*etcFile          // what changes with the network
	renew   []func() error      // called before another process is started: what is mounted needs a name again
	open    closers.Stack       // what Close gives back
}

// Prepare gets a container all it needs. Close the Container, whether it was started or not.
func (f *Factory) Prepare(ctx context.Context, o Options) (*Container, error) {
	c := &Container{factory: f, options: &o}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Container) prepare(ctx context.Context) (err error) {
	o := c.options
	c.spec = runtime.Spec{
		Args: o.Process.Args, Dir: path.Join("/", o.Process.Dir), Terminal: o.Process.Terminal, Rows: o.Process.Rows, Cols: o.Process.Cols, Hostname: o.Hostname, Domainname: o.Domain,
		Limits: o.Limits, Security: o.Security, Warn: c.factory.warn, Shared: o.Shared, Sysctls: o.Sysctls, Init: o.Process.Init,
		Host: &c.factory.host,
	}
	if c.spec.Isolation, err = c.factory.Isolate(); err != nil {
		return err
	}
	if c.spec.Root, err = o.Root.Mount(ctx); err != nil {
		return err
	}
	if o.Files == nil {
		c.spec.User, err = LookupUserIn(c.spec.Root, o.Process.User, o.Process.Groups)
	} else {
		c.spec.User, err = LookupUser(o.Files, o.Process.User)
	}
	if err != nil {
		return err
	}
	c.spec.Env = Environment(o.Process.Env, c.spec.User.Home)
	if o.Files == nil {
		c.readAhead()
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	if err := c.mountDefaults(); err != nil {
		return err
	}
	if err := c.mountAll(ctx); err != nil {
		return err
	}
	return c.mountDevices()
}

// maxProfile is how large a seccomp profile may be, in bytes.
const maxProfile = 4 << 20

// SeccompProfile reads the profile that --security-opt seccomp= names, unless it is one of docker's words.
func SeccompProfile(ctx context.Context, name string) (string, error) {
	switch name {
	case "", "unconfined", "builtin", "default":
		return name, nil
	}
	text, err := durable.ReadInput(ctx, name, maxProfile)
	if err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	return string(text), nil
}

// connect gets the container its network.
func (c *Container) connect(ctx context.Context) (err error) {
	mode := c.options.Network
	if c.spec.Isolation == runtime.ByChroot {
		if mode == "none" {
			return errors.New("network none takes a network namespace, which isolation by chroot does without")
		}
		mode = "host"
	}
	c.Network.Mode = mode
	if c.factory.Connect != nil {
		if c.Network, err = c.factory.Connect(ctx, mode); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	if c.Network.Close != nil {
		c.open.Push(c.Network.Close)
	}
	c.spec.Network = c.Network.Network
	return nil
}

// mountDefaults makes the mount points of what every container has, and the working directory: a base image may name one
// that it does not have. They stay in the layer of a build, as BuildKit's do, so they are made before any mount point that does not;
// of what a container has written they are no part, as docker's are not.
func (c *Container) mountDefaults() error {
	make := c.options.Root.MakeDir
	if c.options.Etc == EtcOfRun {
		make = func(dir string) error {
			_, err := c.options.Root.Mountpoint(dir, os.ModeDir)
			return err
		}
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := make(dir); err != nil {
			return err
		}
		c.targets = append(c.targets, mountTarget{path: dir})
	}
	if _, ok := c.outer(c.spec.Dir); ok {
		return nil
	}
	if err := c.options.Root.MakeDir(c.spec.Dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	return nil
}

// mountAll adds the caller's mounts and the files of /etc, outer ones first, so that none covers another.
func (c *Container) mountAll(ctx context.Context) error {
	mounts := slices.Clone(c.options.Mounts)
	etc, err := c.etcMounts()
	if err != nil {
		return err
	}
	if c.options.Etc == EtcOfRun {
		mounts = append(mounts, etc...)
	} else if err := c.addMounts(ctx, etc); err != nil {
		return err
	}
	if err := c.lockCaches(ctx); err != nil {
		return err
	}
	depth := func(m Mount) int { return strings.Count(m.target(), "/") }
	slices.SortStableFunc(mounts, func(a, b Mount) int { return depth(a) - depth(b) })
	return c.addMounts(ctx, mounts)
}

func (c *Container) addMounts(ctx context.Context, mounts []Mount) error {
	for _, m := range mounts {
		if err := m.mount(ctx, c); err != nil {
			return fmt.Errorf("%s mount at %s: %w", m.kind(), m.target(), err)
		}
	}
	return nil
}

// Mount adds mounts to those that the next process gets.
func (c *Container) Mount(ctx context.Context, mounts ...Mount) error {
	c.options.Mounts = append(slices.Clone(c.options.Mounts), mounts...)
	return c.addMounts(ctx, mounts)
}

// A Terminal is one that a process gets.
type Terminal struct {
	Name       string // TERM
	Rows, Cols uint16
}

// StartTerminal starts another process in the Container, with a terminal, in the place of the command that it was prepared for. Nothing may be running in
// it. It fails as Start does.
func (c *Container) StartTerminal(ctx context.Context, args []string, t Terminal, io runtime.Stdio) (*runtime.Process, error) {
	for _, f := range c.renew {
		if err := f(); err != nil {
			return nil, err
		}
	}
	spec := c.spec
	spec.Args, spec.Terminal, spec.Rows, spec.Cols = args, true, t.Rows, t.Cols
	spec.Env = append(slices.Clone(spec.Env), "TERM="+t.Name)
	return c.start(ctx, spec, io)
}

// Find is the path in the container of the first of some programs that is in a directory of its PATH, as the root file system is now; "" if there is
// none of them.
func (c *Container) Find(programs ...string) string {
	tree := snapshot.OpenLive(c.spec.Root)
	list := runtime.DefaultPath
	for _, kv := range c.spec.Env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = value
		}
	}
	for _, name := range programs {
		for dir := range strings.SplitSeq(list, ":") {
			at, err := tree.Resolve(strings.TrimPrefix(path.Join("/", dir, name), "/"))
			if err != nil {
				continue
			}
			if e, err := tree.Lstat(at); err == nil && e.Mode&syscall.S_IFMT == syscall.S_IFREG && e.Mode&0o111 != 0 {
				return path.Join("/", dir, name) // a program may do what it is called
			}
		}
	}
	return ""
}

// Start starts the process. It fails with a *CommandError if the command cannot be executed, and with a
// *runtime.SetupError if its surroundings cannot be made.
func (c *Container) Start(ctx context.Context, io runtime.Stdio) (*runtime.Process, error) {
	return c.start(ctx, c.spec, io)
}

func (c *Container) start(ctx context.Context, spec runtime.Spec, io runtime.Stdio) (*runtime.Process, error) {
	p, err := runtime.Start(ctx, spec, io)
	if err != nil {
		return nil, c.explain(err, c.options.Process.Platform)
	}
	for _, f := range c.started {
		if err := f(); err != nil {
			c.open.Push(func() error { return err }) // the process is not ended for it
		}
	}
	return p, nil
}

// Close gives back what was prepared. The process must have ended.
func (c *Container) Close() error { return c.open.Close() }
