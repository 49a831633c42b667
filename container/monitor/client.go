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
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketFile is the name of a monitor's socket in the container's directory.
const SocketFile = "socket"

// ErrGone means that the container has no monitor: it does not run.
var ErrGone = errors.New("container is not running")

// Listen makes the socket in a container's directory, in the place of what a dead monitor has left there. A path of any
// length will do.
func Listen(dir string) (*net.UnixListener, error) {
	if err := os.Remove(filepath.Join(dir, SocketFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", shortAddr(d))
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the name is another one then
	return l, nil
}

// shortAddr names the socket in an open directory by a path that fits into a socket address (108 bytes, unix(7)).
func shortAddr(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), SocketFile)}
}

// A Client talks to the monitor of the container in Dir.
type Client struct{ Dir string }

func (c Client) dial() (*net.UnixConn, error) {
	d, err := os.Open(c.Dir)
	if errors.Is(err, os.ErrNotExist) { // the container has been removed
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	conn, err := net.DialUnix("unix", nil, shortAddr(d))
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return nil, ErrGone
	}
	return conn, err
}

// ask sends a request and returns the answer without its "ok".
func (c Client) ask(ctx context.Context, verb string, args ...int) (string, error) {
	conn, err := c.dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := request(conn, verb, args...); err != nil {
		return "", err
	}
	text, err := answered(bufio.NewReader(conn))
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return text, err
}

func request(w io.Writer, verb string, args ...int) error {
	line := verb
	for _, n := range args {
		line += " " + strconv.Itoa(n)
	}
	_, err := io.WriteString(w, line+"\n")
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrGone
	}
	return err
}

func answered(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", ErrGone // the monitor ended before it answered
	}
	line = strings.TrimSuffix(line, "\n")
	if quoted, ok := strings.CutPrefix(line, "error "); ok {
		text, err := strconv.Unquote(quoted)
		return "", errors.Join(err, errors.New(text))
	}
	return strings.TrimPrefix(strings.TrimPrefix(line, "ok"), " "), nil
}

// Signal sends the container's first process a signal; after SIGKILL it waits for the container's end.
func (c Client) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := c.ask(ctx, verbSignal, int(sig))
	return err
}

// Stop sends sig and, if the container has not ended after so many seconds (-1: never), SIGKILL. It waits for the end.
func (c Client) Stop(ctx context.Context, sig syscall.Signal, seconds int) error {
	_, err := c.ask(ctx, verbStop, int(sig), seconds)
	return err
}

// Shutdown is Stop for a machine that is shut down: the restart policy does not rest.
func (c Client) Shutdown(ctx context.Context, sig syscall.Signal, seconds int) error {
	_, err := c.ask(ctx, verbShutdown, int(sig), seconds)
	return err
}

// Restart ends the run of the container, as Stop does, and begins another. It waits for that one's start, and fails with ErrGone
// if the container has just ended otherwise.
func (c Client) Restart(ctx context.Context, sig syscall.Signal, seconds int) error {
	_, err := c.ask(ctx, verbRestart, int(sig), seconds)
	return err
}

// Pause stops all processes of the container.
func (c Client) Pause(ctx context.Context) error {
	_, err := c.ask(ctx, verbPause)
	return err
}

// Unpause lets them go on.
func (c Client) Unpause(ctx context.Context) error {
	_, err := c.ask(ctx, verbUnpause)
	return err
}

// Resize sets the size of the container's terminal.
func (c Client) Resize(ctx context.Context, size Size) error {
	_, err := c.ask(ctx, verbResize, int(size.Rows), int(size.Cols))
	return err
}

// Hold pauses the container, unless it is paused already, until what it returns is called or this process ends, whatever ends
// it.
func (c Client) Hold(ctx context.Context) (release func() error, err error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in := bufio.NewReader(conn)
	if err = request(conn, verbHold); err == nil {
		_, err = answered(in)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() error {
		err := conn.CloseWrite()
		if err == nil {
			_, err = answered(in)
		}
		if errors.Is(err, ErrGone) { // the container has ended
			err = nil
		}
		return errors.Join(err, conn.Close())
	}, nil
}

// Call has the owner of the monitor do something that has a name.
func (c Client) Call(ctx context.Context, name string, arg []byte) error {
	_, err := c.ask(ctx, verbCall+" "+name+" "+base64.StdEncoding.EncodeToString(arg))
	return err
}

// Wait waits for the end of the container's run and returns its exit status.
func (c Client) Wait(ctx context.Context) (int, error) {
	text, err := c.ask(ctx, verbWait)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// Streams say what to attach: nil is not attached.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Size     Size        // of the terminal, if the container has one; zero is not known
	Sizes    <-chan Size // that it has later; may be nil

	// Attached is called when they are attached: nothing is missed that is written from then on, and nothing has been passed on before. An
	// error of it ends the attachment. It may be nil.
	Attached func() error
}

// A Size is that of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// ErrDetached is what In fails with to leave: the container goes on without who was attached.
var ErrDetached = errors.New("detached")

// ErrLost means that the monitor ended while somebody was attached.
var ErrLost = errors.New("the connection to the container was lost: its monitor is gone")

// Attach connects streams with those of the container until its run ends, and returns the exit status; or until In fails with
// ErrDetached, which it returns.
func (c Client) Attach(ctx context.Context, s Streams) (int, error) {
	conn, err := c.dial()
	if err != nil {
		return 0, err
	}
	return Attach(ctx, conn, s)
}

// Attach is as Client.Attach over a connection, which it closes.
func Attach(ctx context.Context, conn *net.UnixConn, s Streams) (int, error) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := request(conn, verbAttach, append(s.which(), int(s.Size.Rows), int(s.Size.Cols))...); err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	if _, err := answered(in); err != nil {
		return 0, err
	}
	if s.Attached != nil {
		if err := s.Attached(); err != nil {
			return 0, err
		}
	}
	detached := make(chan struct{})
	if s.In != nil {
		go func() {
			_, err := io.Copy(frameWriter{conn}, s.In)
			if errors.Is(err, ErrDetached) {
				close(detached)
				_ = writeFrame(conn, frame{stream: streamLeft})
				conn.Close()
				return
			}
			_ = writeFrame(conn, frame{stream: streamEOF})
		}()
	}
	ended := make(chan struct{})
	defer close(ended)
	go s.passSizes(conn, ended)
	code, err := readFrames(in, s)
	select {
	case <-detached:
		return 0, ErrDetached
	default:
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, err
}

// passSizes tells the sizes that the terminal gets.
func (s *Streams) passSizes(w io.Writer, ended chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case size := <-s.Sizes:
			b := binary.BigEndian.AppendUint16(nil, size.Rows)
			if writeFrame(w, frame{streamSize, binary.BigEndian.AppendUint16(b, size.Cols)}) != nil {
				return
			}
		}
	}
}

// which streams are attached: 1 for each that is.
func (s *Streams) which() []int {
	which := []int{0, 0, 0}
	for i, is := range []bool{s.In != nil, s.Out != nil, s.Err != nil} {
		if is {
			which[i] = 1
		}
	}
	return which
}

// A frameWriter sends what is typed.
type frameWriter struct{ w io.Writer }

func (f frameWriter) Write(p []byte) (int, error) {
	if err := writeFrame(f.w, frame{streamIn, p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// readFrames writes what the container writes, until it ends.
func readFrames(in io.Reader, s Streams) (int, error) {
	outs := map[byte]io.Writer{1: s.Out, 2: s.Err}
	for {
		stream, data, err := readHeader(in)
		if err != nil {
			return 0, ErrLost
		}
		if out := outs[stream]; out != nil {
			if _, err := io.Copy(out, data); err != nil {
				return 0, err
			}
			continue
		}
		text, err := io.ReadAll(data)
		switch {
		case err != nil:
			return 0, ErrLost
		case stream == streamLost:
			return 0, errors.New(string(text))
		case stream == streamEnd:
			return strconv.Atoi(string(text))
		}
	}
}
