package forge

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
)

// A server knows that a container will be started before that is asked for: a client attaches to it first. Until then a monitor
// process can begin, which takes as long as all that the client says meanwhile. It changes nothing but itself, and has no lock.

// helperReady is the third argument of a monitor that waits until its container is to be started. lockFD is a connection: over it
// come the container's ID, if that was not known before, the container's lock and the connections of those who are attached. At its end
// nobody needs the monitor.
const helperReady = "ready"

// noContainer is in the place of the ID of a monitor that is told later which container it is for. It is as long as one.
const noContainer = "----------------------------------------------------------------"

// A ReadyMonitor is a process that is ready to keep a container.
type ReadyMonitor struct {
	pid     int
	reports *os.File
	conn    *net.UnixConn
}

// helperNetworked follows helperReady where a spare monitor makes a network: one of the default network, without ports.
const helperNetworked = "networked"

// SpareMonitor has a monitor process wait to be told which container it is for, by For: one like another, as far as it makes a network ahead. It
// has read nothing of images and containers until then. Who gives it to nobody closes it.
func (h *Home) SpareMonitor(like ContainerInfo) (*ReadyMonitor, error) {
	if like.record != nil && plainNetwork(&like.record.Config) {
		return h.readyMonitor(noContainer, helperNetworked)
	}
	return h.readyMonitor(noContainer)
}

// For tells a spare monitor which container it is for. An error means that the process has ended.
func (m *ReadyMonitor) For(id string) error {
	_, err := m.conn.Write([]byte(id))
	return err
}

// ReadyMonitor has a monitor process wait for a container to be started. Who gives it to nobody closes it.
func (h *Home) ReadyMonitor(id string) (m *ReadyMonitor, err error) { return h.readyMonitor(id) }

func (h *Home) readyMonitor(id string, args ...string) (m *ReadyMonitor, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	m = &ReadyMonitor{conn: ours}
	m.pid, m.reports, err = h.startHelper([]*os.File{theirs}, id, append([]string{helperReady}, args...)...)
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	if h.options.Started != nil {
		h.options.Started(m.pid)
	}
	return m, nil
}

// Close lets the process end.
func (m *ReadyMonitor) Close() error { return errors.Join(m.conn.Close(), m.reports.Close()) }

// begin has the container started. An error means that the process does nothing: it has ended before it read that.
func (m *ReadyMonitor) begin(ctx context.Context, files []*os.File) (int, *os.File, error) {
	defer context.AfterFunc(ctx, func() { _ = m.conn.Close() })()
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	_, _, err := m.conn.WriteMsgUnix([]byte(helperReady), syscall.UnixRights(fds...), nil)
	if err == nil { // it closes the connection when it has read; the kernel resets one whose end has something unread (unix(7))
		_, err = m.conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, io.EOF) {
		return 0, nil, errors.Join(err, m.Close())
	}
	return m.pid, m.reports, m.conn.Close()
}

// startMonitor starts a monitor for a container, or takes the one that is ready. The first of the files is the container's lock, the
// others are connections of those who are attached from the beginning.
func (h *Home) startMonitor(ctx context.Context, id string, files []*os.File) (pid int, reports *os.File, err error) {
	if h.options.Ready != nil {
		if m := h.options.Ready(id); m != nil {
			if pid, reports, err = m.begin(ctx, files); err == nil {
				return pid, reports, nil
			}
		}
	}
	var args []string
	if n := len(files) - 1; n > 0 {
		args = append(args, helperAttached+strconv.Itoa(n))
	}
	return h.startHelper(files, id, args...)
}

// foundations are what containers stand on, and what takes the kernel long: a monitor that waits makes them before its container is started, a
// spare one before there is a container.
type foundations struct {
	space   func() (*os.File, error) // a network namespace; nil if the container gets none of this process. See beginNamespace
	network *comingNetwork           // in it; nil if it is not there, or is a container's
	cgroup  *runtime.CgroupAhead
}

// layFoundations begins to make them for a container with a network of a mode, but for the network. The caller calls drop.
func layFoundations(mode string) *foundations {
	return &foundations{space: beginNamespace(mode), cgroup: runtime.BeginCgroup(true)}
}

// spareFoundations begins to make them for a container that is not known yet, as the arguments of the process say. The caller calls drop.
func spareFoundations(ctx context.Context, args []string) *foundations {
	f := layFoundations("default")
	if args[len(args)-1] == helperNetworked && !Rootless() {
		store := Home{Dir: args[0]} // not opened: of networks that is not needed
		f.network = spareNetwork(ctx, store.Networks(), f.space)
	}
	return f
}

// drop gives back what no container has got.
func (f *foundations) drop() error {
	if f == nil {
		return nil
	}
	err := f.network.drop()
	closeNamespace(f.space)
	f.cgroup.Close()
	return err
}

// receiveID waits until this process, a spare monitor, is told which container it is for: "" is none. arg is the argument in the place of the
// ID: who lists processes sees the ID there from then on.
func receiveID(starter *os.File, arg string) (string, error) {
	Warm("run")
	id := make([]byte, len(noContainer))
	_, err := io.ReadFull(starter, id)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // who has started this process does not need it any more
		return "", nil
	}
	if err == nil {
		copy(unsafe.Slice(unsafe.StringData(arg), len(arg)), id) // the kernel's memory of arguments, which is this process's to write to
	}
	return string(id), err
}

// keepReady is the whole of a monitor process that waits until its container is to be started. base is nil if nothing was made before.
func (h *Home) keepReady(ctx context.Context, id string, starter *os.File, base *foundations, reports keepReports) (err error) {
	conn, err := net.FileConn(starter)
	if err = errors.Join(err, starter.Close()); err != nil {
		return err
	}
	defer conn.Close()
	r, img, err := h.readyFor(ctx, id)
	if err != nil {
		return err
	}
	if base == nil {
		base = layFoundations(r.Config.Network)
		defer func() { err = errors.Join(err, base.drop()) }()
	}
	reports.cgroup = base.cgroup
	ahead := h.networkAhead(ctx, r, img, base)
	defer func() { err = errors.Join(err, ahead.drop()) }()
	var mounting sync.WaitGroup
	mounting.Go(func() { h.mountAhead(ctx, img) })
	defer mounting.Wait()
	go h.staging.Begin()
	lock, first, err := receiveStart(conn)
	_ = conn.Close() // who has sent them waits for that
	if lock == nil || err != nil {
		return err
	}
	told := reports.started
	reports.started = func() {
		_ = lock.Close()
		told()
	}
	if reports.record, err = h.containers().Record(id); err != nil { // it may have another name and other networks by now
		return err
	}
	reports.image, reports.network = img, ahead
	space := base.space
	if ahead != nil {
		space = nil // it is the network's
	}
	if ahead == nil || !plainNetwork(&reports.record.Config) || reports.record.Name != r.Name {
		reports.network = h.beginNetwork(ctx, reports.record, img, space)
		defer func() { err = errors.Join(err, reports.network.drop()) }()
	}
	_, err = h.keep(ctx, id, first, reports)
	return err
}

// readyFor reads what a container is made from.
func (h *Home) readyFor(ctx context.Context, id string) (*containerRecord, *image.Image, error) {
	r, err := h.containers().Record(id)
	if err != nil {
		return nil, nil, err
	}
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	_, _, err = h.containers().Run(id)
	return r, img, err
}

// receiveStart waits for the lock and the connections with which the container is to be started. Without a lock it is not.
func receiveStart(conn net.Conn) (lock *os.File, first []*net.UnixConn, err error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.New("who starts the monitor is connected by " + conn.RemoteAddr().Network())
	}
	text, rights := make([]byte, len(helperReady)), make([]byte, syscall.CmsgSpace(maxRights*4))
	_, n, _, _, err := c.ReadMsgUnix(text, rights)
	if err != nil || n == 0 { // who has started this process does not need it any more
		return nil, nil, nil //nolint:nilerr // the end of the connection is no failure
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return nil, nil, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			if f := os.NewFile(uintptr(fd), "given"); lock == nil {
				lock = f
			} else if first, err = appendConn(first, f); err != nil {
				return nil, nil, err
			}
		}
	}
	return lock, first, nil
}

// maxRights is how many descriptors a message can carry (SCM_MAX_FD of the kernel).
const maxRights = 253

// appendConn makes a connection of a file, which it closes.
func appendConn(list []*net.UnixConn, f *os.File) ([]*net.UnixConn, error) {
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if unixConn, ok := c.(*net.UnixConn); ok {
		list = append(list, unixConn)
	}
	return list, nil
}
