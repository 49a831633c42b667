package forge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// helperAwake is the third argument of a monitor process that has slept: the fourth is the number of a file in memory that
// says what it was, a sleeper.
const helperAwake = "awake"

// A sleeper is what a monitor process was before it had some hundred bytes of code wait in its place, for a container to which
// nothing happens needs no more: descriptors, which stay open, and what is written nowhere else.
type sleeper struct {
	Process  runtime.Handover
	Network  *network.Handover // nil if the container has no sandbox
	Listener int               // socket of the monitor
	Alive    int               // its lock
	Etc      []container.HeldFile
	Linked   []container.Host
	Leases   []held // directories of the store that it uses, and volumes
	Members  int    // its place in the user namespace, -1 for root
	Memory   monitor.Memory
}

// A held is a file that is locked, and its path.
type held struct {
	FD   int
	Path string
}

// inherit takes over a descriptor from the program before.
func inherit(fd int, path string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), path)
}

// networkQuiet is how long nobody has asked a monitor for a name or had it copy something when it sleeps. A container that asks all the
// time would have it wake all the time.
const networkQuiet = 5 * time.Second

// sleep has the monitor sleep, and returns if it cannot.
func (k *keeper) sleep(wait time.Duration, remember func() (monitor.Memory, bool)) error {
	s := sleeper{Etc: k.container.HeldFiles(), Linked: k.linked, Alive: int(k.alive.Fd()), Members: k.reports.alone.member}
	c, err := k.listener.SyscallConn()
	if err == nil {
		err = c.Control(func(fd uintptr) { s.Listener = int(fd) })
	}
	if err != nil {
		return err
	}
	for _, f := range slices.Concat(k.home.heldDirs(), k.volumes, k.reports.alone.held) {
		s.Leases = append(s.Leases, held{int(f.Fd()), f.Name()})
	}
	doze := func(n *network.Handover) error {
		return k.process.Handover(func(p runtime.Handover) error {
			s.Process, s.Network = p, n
			var ok bool
			if s.Memory, ok = remember(); !ok {
				return monitor.ErrBusy
			}
			return s.do(k.home.Dir, k.record.ID, wait)
		})
	}
	if k.sandbox == nil {
		return doze(nil)
	}
	return k.sandbox.Handover(networkQuiet, doze)
}

// heldDirs are the directories of the store that are this process's: what is mounted may be in them.
func (h *Home) heldDirs() (list []*os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.staging.Dir(); f != nil {
		list = append(list, f)
	}
	if h.snapshots != nil && h.snapshots.Session() != nil {
		list = append(list, h.snapshots.Session())
	}
	return list
}

// do sleeps.
func (s *sleeper) do(dir, id string, wait time.Duration) error {
	file, err := jsonFile("sleeper", s)
	if err != nil {
		return err
	}
	defer file.Close()
	z := runtime.Sleep{Timeout: wait, Args: []string{monitorName, dir, id, helperAwake, strconv.Itoa(int(file.Fd()))}}
	z.Until, z.Keep = s.Process.Descriptors()
	if s.Network != nil {
		readable, others := s.Network.Descriptors()
		z.Until, z.Keep = append(z.Until, readable...), append(z.Keep, others...)
	}
	z.Until = append(z.Until, s.Listener)
	z.Keep = append(z.Keep, s.Alive, int(file.Fd()))
	if s.Members >= 0 {
		z.Keep = append(z.Keep, s.Members)
	}
	for _, f := range s.Etc {
		z.Keep = append(z.Keep, f.FD)
	}
	for _, l := range s.Leases {
		z.Keep = append(z.Keep, l.FD)
	}
	return z.Do()
}

// jsonFile is a file in memory, open at its beginning, that says v: an argument could be 128 KB long at most.
func jsonFile(name string, v any) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	err = json.NewEncoder(f).Encode(v)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readSleeper reads what an argument names.
func readSleeper(arg string) (*sleeper, error) {
	fd, err := strconv.Atoi(arg)
	if err != nil {
		return nil, err
	}
	f := inherit(fd, "sleeper")
	s := &sleeper{}
	err = json.NewDecoder(f).Decode(s)
	return s, errors.Join(err, f.Close())
}

// alone is for a process that does nothing but keep a container.
type alone struct {
	member int        // descriptor: its place in the user namespace, -1 for root
	was    *sleeper   // which it takes over
	held   []*os.File // of the run that was taken over

	terminated bool // SIGTERM has come while it slept
}

// woken is what a monitor was that has slept, until it has taken its container over; else nil.
func (r *keepReports) woken() *sleeper {
	if r.alone == nil {
		return nil
	}
	return r.alone.was
}

// awake is the whole of a monitor process that has slept.
func awake(args []string) (err error) {
	s, err := readSleeper(args[3])
	if err != nil {
		return err
	}
	if s.Members >= 0 {
		unix.CloseOnExec(s.Members)
	}
	a := &alone{member: s.Members, was: s, terminated: args[len(args)-1] == runtime.Terminated}
	for _, l := range s.Leases {
		a.held = append(a.held, inherit(l.FD, l.Path))
	}
	k := &keeper{alive: inherit(s.Alive, "alive"), reports: keepReports{alone: a, started: func() {}}}
	f := inherit(s.Listener, "socket")
	l, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	k.listener, _ = l.(*net.UnixListener)
	k.listener.SetUnlinkOnClose(false)
	ctx := context.Background()
	if k.home, err = openOfMonitor(ctx, args[0]); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.home.Close()) }()
	store := k.home.containers()
	r, err := store.Record(args[1])
	if err != nil {
		return err
	}
	run, _, err := store.Run(args[1])
	if err != nil {
		return err
	}
	if k.image, err = k.home.containerImage(ctx, r); err != nil {
		return err
	}
	k.becomes(r)
	_, err = k.keep(ctx, run, nil)
	return err
}

// adopt takes over the container of a monitor that has slept.
func (k *keeper) adopt(ctx context.Context, stdio runtime.Stdio) (_ monitor.Process, err error) {
	a := k.reports.alone
	var open closers.Stack
	open.Push(func() error { return k.home.releaseVolumes(ctx, k.record) })
	open.Push(a.release(k.home))
	for _, p := range k.record.Config.MountPoints {
		if p.Type == "volume" {
			open.Push(k.home.unmounted(k.record.ID, p.Name))
		}
	}
	if a.was.Network != nil {
		if k.sandbox, err = k.home.Networks().Adopt(a.was.Network); err != nil {
			return nil, err
		}
		open.Push(k.leave(k.sandbox))
	}
	options, err := k.options()
	if err != nil {
		return nil, err
	}
	k.linked = a.was.Linked
	options.Hosts = append(slices.Clone(k.linked), options.Hosts...)
	k.container = (&container.Factory{Staging: k.home.staging, Events: k.reports.events}).Adopt(options, a.was.Etc)
	open.Push(k.container.Close)
	k.process = runtime.Adopt(a.was.Process, stdio)
	a.was = nil
	return &keptProcess{k.process, open}, nil
}

// release gives back the directories of a run that was taken over, as they are swept that a process has left which was killed.
func (a *alone) release(h *Home) func() error {
	return func() error {
		var errs []error
		for _, f := range a.held {
			errs = append(errs, f.Close())
		}
		a.held = nil
		store, err := h.Snapshots()
		if err == nil {
			err = store.Sweep()
		}
		return errors.Join(append(errs, err, h.staging.Sweep())...)
	}
}

// leave takes the container off its networks, when a run has ended.
func (k *keeper) leave(sandbox *network.Sandbox) func() error {
	return func() error {
		k.disconnected()
		return sandbox.Close()
	}
}
