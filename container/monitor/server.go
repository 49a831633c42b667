package monitor

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/hangup"
)

// serve answers requests until the listener is closed, or its deadline has come.
func (m *Monitor) serve() {
	end := make(chan struct{})
	m.door.serving = end
	go func() {
		defer close(end)
		m.accept()
	}()
}

func (m *Monitor) accept() {
	for {
		u, err := m.door.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil { // such as too many open files
			time.Sleep(10 * time.Millisecond)
			continue
		}
		m.door.enter()
		go func() {
			defer m.door.leave()
			m.handle(u, m.connect)
		}()
	}
}

// requestTime is how long who connects may take to say what it wants.
const requestTime = 10 * time.Second

// First serves an attach request that was made before the container starts, and returns when who made it is attached. The
// container waits for that one, as for a pipe: nothing that it writes is lost.
func (m *Monitor) First(c *net.UnixConn) {
	m.door.enter()
	attached := make(chan struct{})
	go func() {
		defer m.door.leave()
		defer close(attached)
		m.handle(c, func(s *subscriber) {
			s.patient = true
			m.connect(s)
			attached <- struct{}{}
		})
	}()
	<-attached
}

// handle answers one request, and closes the connection.
func (m *Monitor) handle(c *net.UnixConn, connect func(*subscriber)) {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(requestTime))
	in := bufio.NewReaderSize(c, maxLine)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return
	}
	text, err := m.answer(c, in, words, connect)
	switch {
	case errors.Is(err, errNotRunning): // the connection closes, as it does when the monitor is gone
	case err != nil:
		fmt.Fprintf(c, "error %q\n", err)
	case text != "":
		fmt.Fprintf(c, "%s\n", text)
	}
}

// answer does what is asked for. It returns "" if it has answered itself.
func (m *Monitor) answer(c *net.UnixConn, in *bufio.Reader, words []string, connect func(*subscriber)) (string, error) {
	if words[0] == verbCall && len(words) == 3 {
		return "ok", m.call(words[1], words[2])
	}
	args, err := numbers(words[1:])
	if err != nil {
		return "", err
	}
	need := map[string]int{verbAttach: 5, verbSignal: 1, verbStop: 2, verbRestart: 2, verbShutdown: 2, verbResize: 2}[words[0]]
	if len(args) != need {
		return "", fmt.Errorf("%s takes %d numbers", words[0], need)
	}
	switch words[0] {
	case verbAttach:
		return "", m.attach(c, in, args, connect)
	case verbSignal:
		return "ok", m.signal(syscall.Signal(args[0]))
	case verbStop:
		return "ok", m.stopAll(syscall.Signal(args[0]), args[1])
	case verbShutdown:
		return "ok", m.Shutdown(syscall.Signal(args[0]), args[1])
	case verbRestart:
		return m.restart(syscall.Signal(args[0]), args[1])
	case verbPause:
		return "ok", m.pause()
	case verbUnpause:
		return "ok", m.unpause()
	case verbHold:
		return m.hold(c, in)
	case verbWait:
		return m.wait(c)
	case verbResize:
		m.resize(uint16(args[0]), uint16(args[1]))
		m.config.Event("resize", "height", itoa(args[0]), "width", itoa(args[1]))
		return "ok", nil
	}
	return "", fmt.Errorf("unknown request %q: the monitor is of another version of forge; restart the container", words[0])
}

func numbers(words []string) (list []int, err error) {
	for _, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

var (
	errNotRunning = errors.New("container is not running")
	errPaused     = errors.New("container is already paused")
	errNotPaused  = errors.New("container is not paused")
)

// attach connects somebody with the streams.
func (m *Monitor) attach(c *net.UnixConn, in *bufio.Reader, which []int, connect func(*subscriber)) error {
	broken := atomic.Bool{}
	s := newSubscriber(func(f frame) error {
		err := writeFrame(c, f)
		broken.Store(errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET))
		return err
	})
	s.cut = func() { _ = c.SetWriteDeadline(time.Now().Add(time.Second)) }
	s.streams = [3]bool{1: which[1] == 1, 2: which[2] == 1}
	if which[3] > 0 {
		m.resize(uint16(which[3]), uint16(which[4]))
	}
	connect(s)                                           // first: who has the answer misses nothing that is written from then on
	if _, err := io.WriteString(c, "ok\n"); err != nil { // he is gone, but may have said something
		broken.Store(true)
		m.fan.remove(s)
	}
	go s.run()
	gone, stop := hangup.Watch(c)
	defer stop()
	there, leave := context.WithCancel(context.Background())
	defer leave()
	t, heard := &typist{monitor: m, there: there, wanted: which[0] == 1}, make(chan struct{})
	m.door.now.Add(1)
	go func() {
		defer m.door.now.Add(-1)
		defer close(heard)
		for t.typed(in) {
		}
		m.fan.remove(s) // who went away is not waited for
		if m.config.Left != nil {
			m.config.Left(t.left)
		}
	}()
	select {
	case <-s.done:
	case <-gone:
		broken.Store(true)
	}
	m.fan.remove(s)
	if broken.Load() {
		t.finish(leave, heard)
	}
	return nil
}

// A typist is somebody who is attached, and may type.
type typist struct {
	monitor *Monitor
	there   context.Context // ends when nobody waits any more for what he types to be read
	wanted  bool            // what he types
	read    atomic.Int64    // bytes of it that were taken
	left    bool            // he has said so
}

// Write passes on what he types.
func (t *typist) Write(p []byte) (int, error) {
	n, err := t.monitor.input().write(t.there, p)
	t.read.Add(int64(n))
	return n, err
}

// finish is for one who is gone: before that he may have typed, and said that he leaves, which is there to be read. When the container reads
// nothing for a while, the rest of what he has typed is dropped.
func (t *typist) finish(leave func(), heard <-chan struct{}) {
	for read := t.read.Load(); ; {
		select {
		case <-heard:
			return
		case <-time.After(patience):
		}
		now := t.read.Load()
		if now == read {
			leave()
			<-heard
			return
		}
		read = now
	}
}

// typed does what a frame says. It returns false when the connection has ended.
func (t *typist) typed(in io.Reader) bool {
	stream, data, err := readHeader(in)
	if err != nil {
		return false
	}
	m := t.monitor
	switch {
	case stream == streamLeft:
		t.left = true
	case stream == streamSize:
		var b [4]byte
		if _, err := io.ReadFull(data, b[:]); err == nil {
			m.resize(binary.BigEndian.Uint16(b[:]), binary.BigEndian.Uint16(b[2:]))
		}
	case stream == streamEOF && t.wanted:
		m.eof()
	case stream == streamIn && t.wanted:
		if _, err := io.Copy(t, data); err != nil {
			t.wanted = false // the run has ended, or he is gone; there may be nothing more to read
		}
	}
	_, err = io.Copy(io.Discard, data)
	return err == nil
}

func (m *Monitor) connect(s *subscriber) {
	m.fan.add(s)
	m.config.Event("attach")
}

func (m *Monitor) input() *stdin {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stdin
}

// eof notes that somebody who could type has no more to say.
func (m *Monitor) eof() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.config.StdinOnce {
		m.stdin.eof()
	}
}

// call does what the owner of the monitor knows how to do.
func (m *Monitor) call(name, quoted string) error {
	arg, err := base64.StdEncoding.DecodeString(quoted)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return errNotRunning
	}
	if err := m.config.Call(m.run, name, arg); err != nil {
		return err
	}
	return m.config.Record(m.run)
}

// resize sets the size of the terminal. What does not run has it from the beginning of the next run.
func (m *Monitor) resize(rows, cols uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = Size{rows, cols}
	if m.process != nil {
		_ = m.process.Resize(rows, cols) // it may have none
	}
}

// wait waits for the end of the run that goes on, as long as who asked is there.
func (m *Monitor) wait(c *net.UnixConn) (string, error) {
	gone, stop := hangup.Watch(c)
	defer stop()
	ended, code := m.ending()
	select {
	case <-ended:
		return "ok " + itoa(*code), nil
	case <-gone:
		return "", nil
	}
}

// ending is closed when the run that goes on has ended, with that exit status.
func (m *Monitor) ending() (ended <-chan struct{}, code *int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended, m.code
}

func itoa(n int) string { return strconv.Itoa(n) }
