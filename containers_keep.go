package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
)

// A monitor process keeps one container that stays. It is this program, started as monitorName with the state directory and
// the container's ID as arguments, and with these descriptors.
const (
	monitorName = "forge-monitor"
	reportFD    = 3 // takes the reports of the start
	lockFD      = 4 // the container's lock, until it has started; so it is held even if who asked for the start is killed
	firstFD     = 5 // with helperAttached: a connection of who is attached from the beginning; those of others follow

	helperExec     = "exec"      // the third argument: it is a process in the container that is kept; lockFD says which
	helperAttached = "attached=" // begins the last one; then comes how many are attached
)

// A report is what a monitor process says while it starts: a line of JSON for each event and, at last, how the start went.
type report struct {
	Event   *event.Event `json:"event,omitempty"`
	Started bool         `json:"started,omitempty"`
	Error   string       `json:"error,omitempty"`
	Code    int          `json:"code,omitempty"` // of a command that cannot be executed
}

// IsMonitor reports whether this process was started to keep a container: then it calls [Monitor], and nothing else.
func IsMonitor() bool { return filepath.Base(os.Args[0]) == monitorName && len(os.Args) >= 3 }

// IsReaper reports whether this process was started to end what a build that was killed has left: then it calls [Reap], and
// nothing else.
func IsReaper() bool { return runtime.IsReaper() }

// Reap is the whole of that process.
func Reap() { runtime.Reap() }

// Monitor is the whole of a monitor process. It returns the exit status of the process.
func Monitor() int {
	// Not SIGPIPE, which does not end it and would be ignored by the programs that it starts, too.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	if len(os.Args) > 4 && os.Args[3] == helperAwake {
		if err := awake(os.Args[1:]); err != nil {
			return 1 // the record says that it was killed: there is nobody to be told more
		}
		return 0
	}
	reports := os.NewFile(reportFD, "reports")
	syscall.CloseOnExec(reportFD)
	var mu sync.Mutex
	say := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		if reports == nil {
			return
		}
		_ = json.NewEncoder(reports).Encode(r)
		if r.Event == nil { // the last one
			_ = reports.Close()
			reports = nil
		}
	}
	err := monitorContainer(os.Args[1:], say)
	if err != nil {
		r := report{Error: err.Error()}
		if e, ok := errors.AsType[*CommandError](err); ok {
			r.Code = e.Code
		}
		say(r)
		return 1
	}
	return 0
}

func monitorContainer(args []string, say func(report)) (err error) {
	ctx := context.Background()
	member := -1
	if Rootless() {
		if member, err = runtime.BecomeMember(filepath.Join(args[0], membersFile)); err != nil {
			return err
		}
	}
	syscall.CloseOnExec(lockFD)
	given := os.NewFile(lockFD, "given")
	id := args[1]
	var base *foundations
	if id == noContainer { // the store is not opened, which would make it, before there is a container
		base = spareFoundations(ctx, args)
		defer func() { err = errors.Join(err, base.drop()) }()
		if id, err = receiveID(given, id); id == "" || err != nil {
			return err
		}
	}
	h, err := openOfMonitor(ctx, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	first, err := firstAttached(args[len(args)-1])
	if err != nil {
		return err
	}
	reports := keepReports{
		alone:  &alone{member: member},
		events: func(e event.Event) { say(report{Event: &e}) },
		started: func() {
			_ = given.Close()
			say(report{Started: true})
		},
	}
	switch {
	case len(args) > 2 && args[2] == helperExec:
		return h.keepExec(ctx, id, given, first, reports)
	case len(args) > 2 && args[2] == helperReady:
		return h.keepReady(ctx, id, given, base, reports)
	}
	_, err = h.keep(ctx, id, first, reports)
	return err
}

// firstAttached are the connections of those who are attached from the beginning.
func firstAttached(arg string) (list []*net.UnixConn, err error) {
	text, ok := strings.CutPrefix(arg, helperAttached)
	if !ok {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	for fd := firstFD; fd < firstFD+n; fd++ {
		syscall.CloseOnExec(fd)
		if list, err = appendConn(list, os.NewFile(uintptr(fd), "first")); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// keepReports tell how a container starts, and how it is kept.
type keepReports struct {
	events  event.Sink
	started func()
	record  *containerRecord     // the container's, if the caller has just created it
	image   *image.Image         // the same
	network *comingNetwork       // its first; nil if nobody has begun to make it
	cgroup  *runtime.CgroupAhead // of its first run; the same
	alone   *alone               // nil if this process does more than to keep the container
}

// openOfMonitor opens the store as whoever started the monitor did.
func openOfMonitor(ctx context.Context, dir string) (*Home, error) {
	return Open(ctx, Options{Dir: dir, Snapshotter: Snapshotter(os.Getenv("FORGE_SNAPSHOTTER")), Command: "run"})
}

// keep starts a container and keeps it until it ends and is not restarted. The caller, or who started the caller, holds the
// container's lock until it has started. first are those who are attached from the beginning.
func (h *Home) keep(ctx context.Context, id string, first []*net.UnixConn, reports keepReports) (exit runtime.Exit, err error) {
	store := h.containers()
	r := reports.record
	if r == nil {
		if r, err = store.Record(id); err != nil {
			return exit, err
		}
	}
	run, was, err := store.Run(id)
	if err != nil {
		return exit, err
	}
	if was == state.Exited && r.Config.AutoRemove { // its monitor waits for the lock to do that
		return exit, errors.New("container is marked for removal and cannot be started")
	}
	alive, err := store.Monitor(ctx, id)
	if errors.Is(err, flock.ErrHeld) {
		return exit, fmt.Errorf("container %s is %s: %w", r.Name, was, err)
	}
	if err != nil {
		return exit, err
	}
	defer func() {
		if closeErr := alive.Close(); !errors.Is(closeErr, os.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}()
	if err := failpoint.At("keep.monitor"); err != nil {
		return exit, err
	}
	if reports.cgroup == nil {
		reports.cgroup = runtime.BeginCgroup(reports.alone != nil)
		defer reports.cgroup.Close()
	}
	k := &keeper{home: h, image: reports.image, coming: reports.network, reports: reports, alive: alive}
	k.becomes(r)
	if k.image == nil {
		if k.image, err = h.containerImage(ctx, r); err != nil {
			return exit, err
		}
	}
	if k.coming == nil {
		k.coming = h.beginNetwork(ctx, r, k.image, nil)
	}
	defer func() { err = errors.Join(err, k.coming.drop()) }()
	if k.listener, err = monitor.Listen(store.Dir(id)); err != nil {
		return exit, err
	}
	if err := failpoint.At("keep.listening"); err != nil {
		return exit, errors.Join(err, k.listener.Close())
	}
	run.Restarts, run.Stopped = 0, false
	return k.keep(ctx, run, first)
}

// keep starts the container, or takes it over, and keeps it.
func (k *keeper) keep(ctx context.Context, run *state.Run, first []*net.UnixConn) (exit runtime.Exit, err error) {
	config, err := k.config(ctx)
	if err != nil {
		return exit, errors.Join(err, k.listener.Close())
	}
	m := monitor.New(config, run)
	for _, c := range first {
		m.First(c)
	}
	r := k.record
	stop := func() {}
	exit, err = m.Keep(ctx, k.listener, func() {
		k.reports.started()
		stop = k.endWithMachine(m)
	})
	stop()
	k.close()
	// From now on the container can be started anew, however long somebody takes to read what it wrote.
	err = errors.Join(err, k.alive.Close())
	m.Drain()
	if !r.Config.AutoRemove { // last: all who wait have been told before
		err = errors.Join(err, k.home.containers().Sync(r.ID))
	}
	return exit, err
}

// endWithMachine has a process that does nothing but to keep a container end it orderly when it gets SIGTERM: a machine that is shut down
// sends that to all, and kills them later. stop ends this.
func (k *keeper) endWithMachine(m *monitor.Monitor) (stop func()) {
	if k.reports.alone == nil {
		return func() {} // what becomes of SIGTERM is the caller's to say
	}
	ended := make(chan os.Signal, 2) // one of them from before
	signal.Notify(ended, unix.SIGTERM)
	if k.reports.alone.terminated {
		ended <- unix.SIGTERM
	}
	go func() {
		for range ended {
			if sig, seconds, err := (StopOptions{}).of(&k.shown.Load().Config, k.image); err == nil {
				_ = m.Shutdown(sig, seconds) // its end is in its record
			}
		}
	}()
	return func() {
		signal.Stop(ended)
		close(ended)
	}
}

// signalNumber is the signal of a name that was checked before.
func signalNumber(name string) syscall.Signal {
	sig, err := ParseSignal(name)
	if err != nil {
		return syscall.SIGTERM
	}
	return sig
}
