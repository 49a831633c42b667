package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/failpoint"
)

// StartContainer starts a container in the background, and returns when its command is executed. It does nothing if the
// container runs. An error of the command is a *CommandError. events may be nil. Those whom first returns are attached from the beginning: it is
// called when it is sure that the container is started here and not by another, and may be nil.
func (h *Home) StartContainer(ctx context.Context, ref string, events event.Sink, first func() []*Attachment) (err error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	if first == nil {
		return h.spawn(ctx, r, nil, events)
	}
	var theirs []*os.File
	defer func() { err = errors.Join(err, closeFiles(theirs)) }()
	return h.spawn(ctx, r, func() (_ []*os.File, err error) {
		theirs, err = beginAll(first())
		return theirs, err
	}, events)
}

// beginAll connects all with files that are for the monitor.
func beginAll(first []*Attachment) (theirs []*os.File, err error) {
	for _, a := range first {
		f, beginErr := a.begin()
		if err = errors.Join(err, beginErr); f != nil {
			theirs = append(theirs, f)
		}
	}
	return theirs, err
}

// closeFiles closes what a monitor was given: its end is to be the end of the connections.
func closeFiles(files []*os.File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// errRuns means that a container was started by another meanwhile.
var errRuns = errors.New("the container runs already")

// RunAttached starts a container, unless it runs, and stays attached to it until it ends; it returns the exit status. If in fails with
// ErrDetached, the container goes on and RunAttached returns that error.
func (h *Home) RunAttached(ctx context.Context, ref string, streams Streams, events event.Sink) (status int, err error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return 0, err
	}
	if _, now, err := h.containers().Run(r.ID); err != nil || now == state.Running {
		if err != nil {
			return 0, err
		}
		return h.monitorOf(r).Attach(ctx, streams)
	}
	status, err = attachFirst(ctx, streams, func(first []*os.File) error {
		taken := false
		err := h.spawn(ctx, r, func() ([]*os.File, error) {
			taken = true
			return first, nil
		}, events)
		if err == nil && !taken {
			err = errRuns
		}
		return err
	})
	if errors.Is(err, errRuns) {
		return h.monitorOf(r).Attach(ctx, streams)
	}
	if run, _, runErr := h.containers().Run(r.ID); status != 0 && runErr == nil && run.OOM { // it may be removed by now
		events.Send(outOfMemory(r))
	}
	return status, err
}

// An Attachment is somebody who is to be attached to what is started: from the beginning, so that nothing is missed.
type Attachment struct {
	streams Streams
	ctx     context.Context // of the one who is attached
	done    chan struct{}   // closed when it is over
	status  int
	err     error
}

// NewAttachment makes streams ready to be attached until ctx ends. It is for one start.
func NewAttachment(ctx context.Context, s Streams) *Attachment {
	return &Attachment{streams: s, ctx: ctx, done: make(chan struct{})}
}

// begin connects the streams with a file that is for the monitor.
func (a *Attachment) begin() (*os.File, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(a.done)
		a.status, a.err = monitor.Attach(a.ctx, ours, a.streams)
	}()
	return theirs, nil
}

// Done is closed when it is over.
func (a *Attachment) Done() <-chan struct{} { return a.done }

// Wait waits for the end of what was started, and returns its exit status; or until its input fails with ErrDetached, which it returns.
func (a *Attachment) Wait() (int, error) {
	<-a.done
	return a.status, a.err
}

// attachFirst has something started, to which streams are attached from the beginning, and stays attached until it ends.
func attachFirst(ctx context.Context, streams Streams, start func(first []*os.File) error) (int, error) {
	attached, detach := context.WithCancel(ctx)
	defer detach()
	a := NewAttachment(attached, streams)
	theirs, err := a.begin()
	if err != nil {
		return 0, err
	}
	err = start([]*os.File{theirs})
	// The end of the monitor is to be the end of the connection.
	if err = errors.Join(err, theirs.Close()); err != nil {
		detach()
		<-a.done
		return 0, err
	}
	return a.Wait()
}

// ErrDetached ends an attachment, but not the container.
var ErrDetached = monitor.ErrDetached

func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(fds[0]), "attach")
	c, err := net.FileConn(f)
	theirs := os.NewFile(uintptr(fds[1]), "attach")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	conn, _ := c.(*net.UnixConn)
	return conn, theirs, nil
}

// spawn starts a monitor process for a container, and waits until that has started the container. first returns the connections of those who are
// attached from the beginning, unless the container runs; it may be nil.
func (h *Home) spawn(ctx context.Context, r *containerRecord, first func() ([]*os.File, error), events event.Sink) (err error) {
	store := h.containers()
	lock, err := (&patience{home: h, record: r, events: events}).lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	_, status, err := store.Run(r.ID)
	if err != nil {
		return err
	}
	switch status {
	case state.Running:
		return nil
	case state.Paused:
		return words.Refusal("start", r.Name, r.ID, string(status))
	case state.Restarting:
		if err := h.monitorOf(r).Stop(ctx, signalNumber("SIGTERM"), 0); err != nil && !errors.Is(err, monitor.ErrGone) {
			return err
		}
	}
	if err := failpoint.At("spawn.locked"); err != nil {
		return err
	}
	files := []*os.File{lock}
	if first != nil {
		attached, err := first()
		if err != nil {
			return err
		}
		files = append(files, attached...)
	}
	pid, reports, err := h.startMonitor(ctx, r.ID, files)
	if err != nil {
		return fmt.Errorf("monitor of container %s: %w", r.Name, err)
	}
	defer reports.Close()
	if err := failpoint.At("spawn.forked"); err != nil {
		return err
	}
	return h.follow(ctx, pid, reports, events)
}

// startHelper starts this program anew, in the background, to keep a container or a process in one. The helper gets the files
// from lockFD on.
func (h *Home) startHelper(files []*os.File, id string, args ...string) (pid int, reports *os.File, err error) {
	reports, theirs, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, nil, errors.Join(err, theirs.Close(), reports.Close())
	}
	fds := []uintptr{null.Fd(), null.Fd(), null.Fd(), theirs.Fd()}
	for _, f := range files {
		fds = append(fds, f.Fd())
	}
	env := append(os.Environ(), "FORGE_SNAPSHOTTER="+string(h.options.Snapshotter))
	// What a caller has left open, such as a script its lock, is not to stay open as long as the container runs. Linux before
	// 5.11 cannot do that.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	pid, err = syscall.ForkExec("/proc/self/exe", append([]string{monitorName, h.Dir, id}, args...), &syscall.ProcAttr{
		Dir: "/", Env: env, Files: fds, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	err = errors.Join(err, theirs.Close(), null.Close())
	if err != nil {
		return 0, nil, errors.Join(err, reports.Close())
	}
	return pid, reports, nil
}

// follow passes on what a monitor process reports until it has started its container. One that does not is waited for, or it would stay as a
// zombie until this process ends.
func (h *Home) follow(ctx context.Context, pid int, reports *os.File, events event.Sink) (err error) {
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })()
	defer func() {
		if err != nil {
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	}()
	lines := json.NewDecoder(reports)
	for {
		var r report
		err := lines.Decode(&r)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return errors.New("the container's monitor ended before the container was started (process " + strconv.Itoa(pid) + ")")
		case r.Event != nil:
			events.Send(*r.Event)
		case r.Started:
			if h.options.Started != nil {
				h.options.Started(pid)
			}
			return nil
		default:
			if r.Code != 0 {
				return &CommandError{Code: r.Code, Text: r.Error}
			}
			return errors.New(r.Error)
		}
	}
}

// monitorOf talks to a container's monitor.
func (h *Home) monitorOf(r *containerRecord) monitor.Client {
	return monitor.Client{Dir: h.containers().Dir(r.ID)}
}
