package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/forge-build/forge"
)

// streamRoutes are about what containers print and read.
func streamRoutes() []route {
	return []route{
		{method: http.MethodPost, pattern: "/containers/{name}/attach", do: attachContainer},
		{method: http.MethodGet, pattern: "/containers/{name}/attach/ws", do: attachSocket},
		{method: http.MethodPost, pattern: "/containers/{name}/wait", do: waitContainer},
		{method: http.MethodGet, pattern: "/containers/{name}/logs", do: containerLogs},
	}
}

// attachContainer connects the client with the streams of a container: of one that does not run, when it is started.
func attachContainer(c *call) error {
	since := time.Now()
	if err := checkKeys(c.query.Get("detachKeys")); err != nil {
		return err
	}
	info, err := c.home.Container(c.name)
	if err != nil {
		return err
	}
	switch info.Status {
	case "paused":
		return conflict(errors.New("container " + c.name + " is paused, unpause the container before attach"))
	case "restarting":
		return conflict(errors.New("container " + c.name + " is restarting, wait until the container is running"))
	}
	if !c.flag("stream") || info.Status.Alive() {
		return c.attach(&info, func(ctx context.Context, _ *hijacked, s forge.Streams) error {
			if !c.flag("stream") {
				return nil
			}
			_, err := c.home.AttachContainer(ctx, info.ID, s)
			return err
		})
	}
	c.server.ready.prepare(c.home, info.ID)
	who := c.server.boarding.announce(info.ID)
	defer c.server.boarding.leave(info.ID, who)
	ready := sync.OnceFunc(func() { close(who.ready) })
	defer ready()
	return c.attach(&info, func(ctx context.Context, conn *hijacked, s forge.Streams) error {
		who.attachment, who.gone = forge.NewAttachment(ctx, s), conn.gone
		ready()
		if err := s.Attached(); err != nil {
			return err
		}
		return c.board(ctx, &info, s, who, since)
	})
}

// attach takes the connection over, shows the log if that is asked for, and lets do go on with the streams. do's context ends when the client
// is gone. Who is attached is told so when he is: he has the container write something then.
func (c *call) attach(info *forge.ContainerInfo, do func(context.Context, *hijacked, forge.Streams) error) (err error) {
	open := c.hijackSocket
	if !c.socket {
		open = func() (*hijacked, error) { return c.hijack(c.streamType(info.TTY)) }
	}
	conn, err := open()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.refuse(conn, err))
		}
		_ = conn.Close() // the client may be gone
	}()
	streams, err := c.streams(conn, info)
	if err != nil {
		return err
	}
	streams.Attached = conn.welcome
	if c.flag("logs") {
		if err := conn.welcome(); err != nil {
			return err
		}
		if err := c.home.ContainerLogs(c.ctx(), info.ID, forge.LogOptions{Tail: -1}, streams.Out, streams.Err); err != nil {
			return err
		}
	}
	reader := streams.In
	if c.socket {
		reader = conn
	}
	ctx, cancel := conn.untilGone(c.ctx(), reader)
	defer cancel()
	if c.socket && streams.In == nil {
		go conn.untilClosed(cancel)
	}
	if err := do(ctx, conn, streams); err != nil {
		return err
	}
	return conn.welcome()
}

// streams are those of the query, over a connection to a container: in frames, unless they are those of a terminal.
func (c *call) streams(conn *hijacked, info *forge.ContainerInfo) (s forge.Streams, err error) {
	f := &frames{w: conn}
	stream := f.stream
	if c.socket {
		stream = func(byte) io.Writer { return conn }
	}
	if c.flag("stdout") {
		s.Out = stream(stdoutStream)
	}
	if c.flag("stderr") {
		s.Err = stream(stderrStream)
	}
	read := conn.input
	if info.TTY {
		read = conn.typed
		s.Out, s.Err = io.Writer(conn), nil
		if !c.flag("stdout") && !c.flag("stderr") {
			s.Out = nil
		}
	}
	if c.flag("stdin") && info.Interactive {
		s.In, err = read(c.query.Get("detachKeys"))
	}
	return s, err
}

// checkKeys refuses keys that end an attachment and are none, before the connection is taken over.
func checkKeys(keys string) error {
	if _, err := forge.DetachReader(nil, keys); err != nil {
		return invalid(errors.New("Invalid detach keys (" + keys + ") provided")) //nolint:staticcheck // docker's words
	}
	return nil
}

// typed is what the client types at a terminal. The keys end the attachment; docker's if they are "".
func (h *hijacked) typed(keys string) (io.Reader, error) { return forge.DetachReader(typed{h}, keys) }

// input is what the client sends where there is no terminal. Without keys, none end the attachment.
func (h *hijacked) input(keys string) (io.Reader, error) {
	if keys != "" {
		return forge.DetachReader(h, keys)
	}
	return h, nil
}

// typed is what somebody types at a terminal: who closes his connection leaves, and has not ended what the container reads.
type typed struct{ r io.Reader }

func (t typed) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = forge.ErrDetached
	}
	return n, err
}

// board waits for the start of a container, and stays attached until it ends. One that is started by another process, since a time, is attached
// to when that is seen: what it has printed before is in the log.
func (c *call) board(ctx context.Context, info *forge.ContainerInfo, s forge.Streams, who *boarder, since time.Time) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	elsewhere := make(chan struct{}) // closed when another process has started it
	go func() {
		q, err := forge.ParseEventQuery("", "", []string{"container=" + info.ID, "event=start", "event=destroy"})
		q.Since = since
		if err != nil || c.home.Events(watch, q, func(forge.EventMessage) error { return io.EOF }) == nil || watch.Err() != nil {
			return
		}
		if c.server.boarding.leave(info.ID, who) {
			close(elsewhere)
		}
	}()
	select {
	case <-who.gone:
		if c.server.boarding.leave(info.ID, who) {
			return nil
		}
	case <-who.attachment.Done():
	case <-ctx.Done():
	case <-elsewhere:
		_, err := c.home.AttachContainer(ctx, info.ID, s)
		return err
	}
	select {
	case <-who.attachment.Done():
		c.server.ready.keepSpare(c.home, info)
	case <-ctx.Done():
	}
	return nil
}

// waitContainer waits for what the client wants to know. The head of the answer is sent when nothing is missed any more: clients start the
// container then.
func waitContainer(c *call) error {
	condition := forge.WaitCondition(c.query.Get("condition"))
	switch condition {
	case "":
		condition = forge.WaitNotRunning
	case forge.WaitNotRunning, forge.WaitNextExit, forge.WaitRemoved:
	default:
		return invalid(errors.New("invalid condition: \"" + string(condition) + "\""))
	}
	ready := func() {
		c.begin(http.StatusOK, "application/json")
		_ = c.flush()
	}
	code, err := c.home.WaitContainerFor(c.ctx(), c.name, condition, ready)
	if err != nil && !c.begun {
		return err
	}
	result := map[string]any{"StatusCode": code, "Error": nil}
	if err != nil {
		result["Error"] = map[string]string{"Message": err.Error()}
	}
	return c.reply(http.StatusOK, result)
}

// containerLogs sends what a container has printed.
func containerLogs(c *call) error {
	info, err := c.home.Container(c.name)
	if err != nil {
		return err
	}
	if !c.flag("stdout") && !c.flag("stderr") {
		return invalid(errors.New("Bad parameters: you must choose at least one stream")) //nolint:staticcheck // docker's words
	}
	o, err := forge.ParseLogOptions(c.query.Get("tail"), timeOf(c.query.Get("since")), timeOf(c.query.Get("until")))
	if err != nil {
		return invalid(err)
	}
	o.Timestamps, o.Details, o.Follow = c.flag("timestamps"), c.flag("details"), c.flag("follow")
	f := &frames{w: flushWriter{c}}
	var out, errs io.Writer
	if c.flag("stdout") {
		out = f.stream(stdoutStream)
	}
	if c.flag("stderr") {
		errs = f.stream(stderrStream)
	}
	if info.TTY {
		out, errs = flushWriter{c}, nil
	}
	if !info.LogsKept {
		return c.home.ContainerLogs(c.ctx(), info.ID, o, out, errs) // which says why there is nothing
	}
	c.begin(http.StatusOK, c.streamType(info.TTY))
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.home.ContainerLogs(c.ctx(), info.ID, o, out, errs); err != nil && c.ctx().Err() == nil {
		_, _ = io.WriteString(f.stream(stderrStream), "Error grabbing logs: "+err.Error()+"\n")
	}
	return nil
}

// timeOf is a time of the query as command lines have it: 0 is none.
func timeOf(text string) string {
	if text == "0" {
		return ""
	}
	return text
}
