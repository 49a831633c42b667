package forge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// RunOptions say what to run and in what surroundings. The zero value of all but Image runs what the image says, with the
// defences of docs/security.md.
type RunOptions struct {
	Image      string
	Args       []string  // instead of the image's Cmd
	Entrypoint *[]string // instead of the image's, whose Cmd goes with it
	Platform   *ocispec.Platform
	Pull       PullPolicy

	Env      []string // K=V, over the image's
	Dir      string
	User     string
	Hostname string // "" is the container's ID
	Terminal bool
	Volumes  []Volume
	Network  string // "default", "none" or "host"
	Hosts    []string
	DNS      []string
	Security runtime.Security
	Limits   runtime.Limits

	Stdio   runtime.Stdio
	Started func(*runtime.Process) // is told of the process once it runs
	RemoteOptions
}

// Run runs a command in a container that is gone when it ends, and returns how it ended. An error is one of forge, a
// *runtime.SetupError or, if the command could not be executed, a *runtime.ExecError.
func (h *Home) Run(ctx context.Context, o RunOptions) (exit runtime.Exit, err error) {
	remote, events := o.queued()
	defer events.Close()
	o.RemoteOptions = remote
	img, err := h.imageToRun(ctx, o)
	if err != nil {
		return exit, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return exit, err
	}
	draft, err := store.Draft(ctx, img.Layers(), snapshot.DraftOptions{})
	if err != nil {
		return exit, err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()

	c := &container{home: h, options: o, image: img, draft: draft}
	defer func() { err = errors.Join(err, c.close()) }()
	spec, err := c.spec(ctx, store)
	if err != nil {
		return exit, err
	}
	o.Events.Send(event.Event{Kind: event.Started})
	events.Close() // from here on the terminal is the command's
	process, err := runtime.Start(ctx, spec, o.Stdio)
	if err != nil {
		return exit, err
	}
	if o.Started != nil {
		o.Started(process)
	}
	return process.Wait()
}

// A container is one run being prepared.
type container struct {
	home    *Home
	options RunOptions
	image   *image.Image
	draft   *snapshot.Draft
	network executor.StepNetwork
	files   []*os.File
	texts   []*image.StagedFile
	mounts  []runtime.Mount
}

func (c *container) close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	for _, f := range c.texts {
		errs = append(errs, f.Close())
	}
	if c.network.Close != nil {
		errs = append(errs, c.network.Close())
	}
	return errors.Join(errs...)
}

// spec says what to run in what surroundings.
func (c *container) spec(ctx context.Context, store *snapshot.Store) (spec runtime.Spec, err error) {
	o, config := &c.options, &c.image.Config.Config
	if spec.Root, err = c.draft.Mount(ctx); err != nil {
		return spec, err
	}
	if spec.Args, err = c.command(); err != nil {
		return spec, err
	}
	view, err := store.View(ctx, c.image.Layers())
	if err != nil {
		return spec, err
	}
	spec.User, err = executor.LookupUser(view, cmp.Or(o.User, config.User))
	if err = errors.Join(err, view.Close()); err != nil {
		return spec, err
	}
	spec.Hostname = o.Hostname
	if spec.Hostname == "" {
		spec.Hostname = newID()[:12]
	}
	spec.Env = c.env(spec.Hostname, spec.User.Home)
	spec.Dir = path.Join("/", cmp.Or(o.Dir, config.WorkingDir))
	if c.network, err = c.home.network(ctx, o.Network, o.DNS, o.Events); err != nil {
		return spec, err
	}
	if err := c.mountAll(spec.Hostname, spec.Dir); err != nil {
		return spec, err
	}
	spec.Mounts, spec.Terminal = c.mounts, o.Terminal
	spec.Security, spec.Limits = o.Security, o.Limits
	spec.Network = c.network.Network
	return spec, nil
}

// command is the whole command line, as docker puts it together.
func (c *container) command() ([]string, error) {
	config := &c.image.Config.Config
	entry, args := config.Entrypoint, c.options.Args
	if c.options.Entrypoint != nil {
		entry = *c.options.Entrypoint
	} else if len(args) == 0 {
		args = config.Cmd
	}
	all := append(slices.Clone(entry), args...)
	if len(all) == 0 {
		return nil, fmt.Errorf("image %s names no command: say which to run", c.options.Image)
	}
	return all, nil
}

// env is PATH, HOSTNAME and HOME, the image's variables over them, and the caller's over those.
func (c *container) env(hostname, home string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + hostname}
	if c.options.Terminal {
		env = append(env, "TERM=xterm")
	}
	env = append(env, "HOME="+home)
	for _, kv := range slices.Concat(c.image.Config.Config.Env, c.options.Env) {
		name, _, _ := strings.Cut(kv, "=")
		at := slices.IndexFunc(env, func(other string) bool { return strings.HasPrefix(other, name+"=") })
		if at >= 0 {
			env[at] = kv
		} else {
			env = append(env, kv)
		}
	}
	return env
}

// mountAll makes the mount points of what every container has and of what the caller asked for.
func (c *container) mountAll(hostname, dir string) error {
	for _, point := range []string{"/proc", "/sys", "/dev", dir} {
		if _, err := c.draft.Mountpoint(point, true, true); err != nil {
			return fmt.Errorf("%s: %w", point, err)
		}
	}
	hosts, err := executor.HostsFile(hostname, c.options.Hosts)
	if err != nil {
		return err
	}
	resolv, err := executor.ResolvConf(c.network)
	if err != nil {
		return err
	}
	for _, f := range []struct{ target, text string }{
		{"/etc/hosts", hosts}, {"/etc/hostname", hostname + "\n"}, {"/etc/resolv.conf", resolv},
	} {
		if err := c.mountText(f.target, f.text); err != nil {
			return err
		}
	}
	for _, v := range c.options.Volumes {
		if err := c.mountVolume(v); err != nil {
			return fmt.Errorf("volume %s: %w", v.Target, err)
		}
	}
	return nil
}

// mountText puts a small file of ours at target. It has a name, since the kernel mounts no file without one.
func (c *container) mountText(target, text string) error {
	staged, err := c.home.staging.Create()
	if err != nil {
		return err
	}
	c.texts = append(c.texts, staged)
	_, err = staged.WriteString(text)
	if err = errors.Join(err, staged.Chmod(0o644)); err != nil {
		return err
	}
	return c.mount(target, false, runtime.Mount{Source: staged.File})
}

func (c *container) mount(target string, dir bool, m runtime.Mount) (err error) {
	if m.Target, err = c.draft.Mountpoint(target, dir, true); err != nil {
		return fmt.Errorf("mount point %s: %w", target, err)
	}
	c.mounts = append(c.mounts, m)
	return nil
}

// A Volume is a directory or file of this machine, or, without a source, a directory in memory.
type Volume struct {
	Source   string
	Target   string // absolute
	ReadOnly bool
	Size     int64  // of memory, in bytes; 0 is no limit
	Mode     uint32 // of the directory in memory
}

// ParseVolume reads docker's SRC:DST[:OPTIONS].
func ParseVolume(s string) (Volume, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return Volume{}, fmt.Errorf("volume %q: must be SRC:DST[:ro|rw]; volumes with a name are not there yet", s)
	}
	v := Volume{Source: parts[0], Target: path.Clean(parts[1])}
	if !filepath.IsAbs(v.Source) && !strings.HasPrefix(v.Source, ".") {
		return v, fmt.Errorf("volume %q: the source must be a path, absolute or with ./; volumes with a name are not there yet", s)
	}
	if !path.IsAbs(parts[1]) || v.Target == "/" {
		return v, fmt.Errorf("volume %q: the destination must be an absolute path below /", s)
	}
	if len(parts) == 3 {
		for option := range strings.SplitSeq(parts[2], ",") {
			switch option {
			case "ro":
				v.ReadOnly = true
			case "rw", "z", "Z", "rprivate", "private", "cached", "delegated", "consistent":
			default:
				return v, fmt.Errorf("volume %q: no such option: %q", s, option)
			}
		}
	}
	return v, nil
}

// ParseTmpfs reads docker's DST[:OPTIONS].
func ParseTmpfs(s string) (Volume, error) {
	target, options, _ := strings.Cut(s, ":")
	v := Volume{Target: path.Clean(target), Mode: 0o1777}
	if !path.IsAbs(target) || v.Target == "/" {
		return v, fmt.Errorf("tmpfs %q: must be an absolute path below /", s)
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "", "rw", "nosuid", "nodev", "noexec", "exec":
		case "ro":
			v.ReadOnly = true
		case "size":
			n, err := strconv.ParseInt(strings.TrimRight(value, "kKmMgG"), 10, 64)
			if err != nil || n <= 0 {
				return v, fmt.Errorf("tmpfs %q: size %q: must be a number with k, m or g", s, value)
			}
			v.Size = n << map[byte]int{'k': 10, 'm': 20, 'g': 30}[value[len(value)-1]|0x20]
		case "mode":
			n, err := strconv.ParseUint(value, 8, 12)
			if err != nil {
				return v, fmt.Errorf("tmpfs %q: mode %q: must be octal", s, value)
			}
			v.Mode = uint32(n)
		default:
			return v, fmt.Errorf("tmpfs %q: no such option: %q", s, option)
		}
	}
	return v, nil
}

func (c *container) mountVolume(v Volume) error {
	if v.Source == "" {
		return c.mount(v.Target, true, runtime.Mount{ReadOnly: v.ReadOnly, Size: v.Size, Mode: v.Mode})
	}
	f, err := os.Open(v.Source)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(v.Source, 0o755); err == nil { // as docker does
			f, err = os.Open(v.Source)
		}
	}
	if err != nil {
		return err
	}
	c.files = append(c.files, f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return c.mount(v.Target, info.IsDir(), runtime.Mount{Source: f, ReadOnly: v.ReadOnly})
}

// newID is a new container's: 64 hex digits.
func newID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
