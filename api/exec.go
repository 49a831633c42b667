package api

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/inspect"
)

// execRoutes are about processes in running containers.
func execRoutes() []route {
	return []route{
		{method: http.MethodPost, pattern: "/containers/{name}/exec", do: createExec},
		{method: http.MethodPost, pattern: "/exec/{name}/start", do: startExec},
		{method: http.MethodPost, pattern: "/exec/{name}/resize", do: resizeExec},
		{method: http.MethodGet, pattern: "/exec/{name}/json", do: inspectExec},
	}
}

// An execBody is docker's request for a process.
type execBody struct {
	User, WorkingDir, DetachKeys string

	Privileged, Tty, AttachStdin, AttachStdout, AttachStderr bool

	ConsoleSize *[2]uint16
	Env         []string
	Cmd         inspect.Words
}

func createExec(c *call) error {
	var b execBody
	if err := c.read(&b, bodyRequired); err != nil {
		return err
	}
	o := forge.ExecOptions{
		Args: b.Cmd, Workdir: b.WorkingDir, User: b.User, TTY: b.Tty, Stdin: b.AttachStdin, Privileged: b.Privileged, DetachKeys: b.DetachKeys,
	}
	for _, v := range b.Env {
		if strings.Contains(v, "=") { // else it would be a variable of this process
			o.Env = append(o.Env, v)
		}
	}
	if err := checkKeys(b.DetachKeys); err != nil {
		return err
	}
	o.Size = sizeOf(b.ConsoleSize)
	id, err := c.home.CreateExec(c.ctx(), c.name, o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, map[string]string{"Id": id})
}

// sizeOf is the size of a terminal, rows first; nil is not known.
func sizeOf(s *[2]uint16) (size forge.TerminalSize) {
	if s != nil {
		size = forge.TerminalSize{Rows: s[0], Cols: s[1]}
	}
	return size
}

// startExec starts a process, and connects the client with its streams unless it is to be detached.
func startExec(c *call) error {
	var b struct {
		Detach, Tty bool
		ConsoleSize *[2]uint16
	}
	if err := c.read(&b, bodyOptional); err != nil {
		return err
	}
	e, err := c.home.InspectExec(c.name)
	if err != nil {
		return err
	}
	size := sizeOf(b.ConsoleSize)
	ctx := context.WithoutCancel(c.ctx())
	if b.Detach {
		if err := c.home.StartExec(ctx, c.name, size, nil); err != nil {
			return startFailed(err)
		}
		return c.reply(http.StatusOK, nil)
	}
	if e.Running || e.ExitCode != nil {
		return c.home.StartExec(ctx, c.name, size, nil) // which says so
	}
	return c.attachExec(ctx, e, size)
}

// attachExec starts a process with the client attached.
func (c *call) attachExec(ctx context.Context, e *inspect.Exec, size forge.TerminalSize) error {
	terminal := e.ProcessConfig.Tty
	conn, err := c.hijack(c.streamType(terminal))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.welcome(); err != nil {
		return err
	}
	f := &frames{w: conn}
	s := forge.Streams{Out: f.stream(stdoutStream), Err: f.stream(stderrStream), Size: size}
	read := conn.input
	if terminal {
		s.Out, s.Err, read = conn, nil, conn.typed
	}
	if e.OpenStdin {
		if s.In, err = read(e.DetachKeys); err != nil {
			return err
		}
	}
	gone, cancel := conn.untilGone(c.ctx(), s.In)
	defer cancel()
	a := forge.NewAttachment(gone, s)
	if err := c.home.StartExec(ctx, c.name, size, nil, a); err != nil {
		_, err = io.WriteString(s.Out, execFailed(err)+"\r\n")
		return err
	}
	_, err = a.Wait()
	return err
}

// execFailed is docker's text of what the client sees in the place of output.
func execFailed(err error) string {
	if is[*forge.CommandError](err) {
		return "OCI runtime exec failed: exec failed: unable to start container process: " + err.Error() + ": unknown"
	}
	return err.Error()
}

func resizeExec(c *call) error {
	size, err := c.size()
	if err != nil {
		return err
	}
	if err := c.home.ResizeExec(c.ctx(), c.name, size); err != nil {
		return err
	}
	return c.reply(http.StatusOK, nil)
}

func inspectExec(c *call) error {
	e, err := c.home.InspectExec(c.name)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, e)
}
