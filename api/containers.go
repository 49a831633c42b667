package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/inspect"
)

// containerRoutes are about containers: lists, and verbs that answer with little. Others are in attach.go, archive.go, create.go and
// observe.go.
func containerRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/containers/json", do: listContainers},
		{method: http.MethodGet, pattern: "/containers/{name}/json", do: inspectContainer},
		{method: http.MethodPost, pattern: "/containers/create", do: createContainer},
		{method: http.MethodPost, pattern: "/containers/prune", do: pruneContainers},
		{method: http.MethodPost, pattern: "/containers/{name}/start", do: startContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/stop", do: stopContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/restart", do: restartContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/kill", do: killContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/pause", do: pauseContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/unpause", do: unpauseContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/rename", do: renameContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/update", do: updateContainer},
		{method: http.MethodPost, pattern: "/containers/{name}/resize", do: resizeContainer},
		{method: http.MethodDelete, pattern: "/containers/{name}", do: removeContainer},
		{method: http.MethodPost, pattern: "/commit", do: commitContainer},
	}
}

// containers are the entries of a list of containers.
func (c *call) containers(o forge.ListOptions) ([]inspect.ContainerSummary, error) {
	return c.home.ContainerSummaries(c.ctx(), o)
}

func listContainers(c *call) error {
	o := forge.ListOptions{All: c.flag("all"), Size: c.flag("size"), Last: -1}
	limit, given, err := c.number("limit")
	if err != nil {
		return err
	}
	if given && limit > 0 {
		o.Last = limit
	}
	if o.Filters, err = c.filters(); err != nil {
		return err
	}
	list, err := c.containers(o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, list)
}

func inspectContainer(c *call) error {
	v, err := c.home.InspectContainer(c.ctx(), c.name)
	if err != nil {
		return err
	}
	if c.flag("size") {
		if err := c.home.MeasureContainer(c.ctx(), v); err != nil {
			return err
		}
	}
	return c.reply(http.StatusOK, v)
}

// startContainer attaches those who have asked for that before, and starts. One that cannot be started and is not meant to stay is removed.
func startContainer(c *call) error {
	info, err := c.home.Container(c.name)
	if err != nil {
		return err
	}
	if info.Status == "running" {
		return errUnchanged()
	}
	ctx := context.WithoutCancel(c.ctx())
	attached := 0
	first := func() []*forge.Attachment {
		all := c.server.boarding.take(info.ID)
		attached = len(all)
		return all
	}
	if err := c.home.StartContainer(ctx, info.ID, nil, first); err != nil {
		if info.AutoRemove { // without force: one that is paused, or was started by another process, stays
			_ = c.home.RemoveContainer(ctx, info.ID, forge.RemoveContainerOptions{Volumes: true})
		}
		return startFailed(err)
	}
	if attached == 0 { // else its end is waited for first: it may be near
		c.server.ready.keepSpare(c.home, &info)
	}
	return c.done()
}

// startFailed tells docker's words about a command that cannot be executed.
func startFailed(err error) error {
	if is[*forge.CommandError](err) {
		return invalid(fmt.Errorf("failed to create task for container: unable to start container process: %w: unknown", err))
	}
	return err
}

// stopOptions are how a container is to be stopped.
func (c *call) stopOptions() (o forge.StopOptions, err error) {
	o.Signal = c.query.Get("signal")
	if o.Signal != "" {
		if _, err := forge.ParseSignal(o.Signal); err != nil {
			return o, invalid(err)
		}
	}
	seconds, given, err := c.number("t")
	if given {
		o.Seconds = &seconds
	}
	return o, err
}

// stopContainer goes on if the client is gone meanwhile, as docker does.
func stopContainer(c *call) error {
	info, err := c.home.Container(c.name)
	if err != nil {
		return err
	}
	if !info.Status.Alive() && info.Status != "restarting" {
		return errUnchanged()
	}
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	if err := c.home.StopContainer(context.WithoutCancel(c.ctx()), info.ID, o); err != nil {
		return err
	}
	return c.done()
}

func restartContainer(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	if err := c.home.RestartContainer(context.WithoutCancel(c.ctx()), c.name, o); err != nil {
		return startFailed(err)
	}
	return c.done()
}

func killContainer(c *call) error {
	signal := c.query.Get("signal")
	if signal != "" {
		if _, err := forge.ParseSignal(signal); err != nil {
			return invalid(err)
		}
	}
	if err := c.home.KillContainer(context.WithoutCancel(c.ctx()), c.name, signal, nil); err != nil {
		return err
	}
	return c.done()
}

func pauseContainer(c *call) error {
	if err := c.home.PauseContainer(c.ctx(), c.name); err != nil {
		return err
	}
	return c.done()
}

func unpauseContainer(c *call) error {
	err := c.home.UnpauseContainer(c.ctx(), c.name)
	if is[forge.RefusedError](err) { // docker has no status of its own for it
		return &statusError{code: http.StatusInternalServerError, text: err.Error()}
	}
	if err != nil {
		return err
	}
	return c.done()
}

func renameContainer(c *call) error {
	name := strings.TrimPrefix(c.query.Get("name"), "/")
	if name == "" {
		return invalid(fmt.Errorf("Neither old nor new names may be empty")) //nolint:staticcheck // docker's words
	}
	if err := c.home.RenameContainer(c.ctx(), c.name, name, nil); err != nil {
		return err
	}
	return c.done()
}

// size is a size of a terminal of the query.
func (c *call) size() (s forge.TerminalSize, err error) {
	rows, _, err := c.number("h")
	if err != nil {
		return s, err
	}
	cols, _, err := c.number("w")
	if err != nil {
		return s, err
	}
	if rows < 0 || cols < 0 || rows > maxTerminal || cols > maxTerminal {
		return s, invalid(fmt.Errorf("invalid size of a terminal: %d rows, %d columns", rows, cols))
	}
	return forge.TerminalSize{Rows: uint16(rows), Cols: uint16(cols)}, nil
}

// maxTerminal is how many rows and columns the kernel lets a terminal have.
const maxTerminal = 1<<16 - 1

func resizeContainer(c *call) error {
	size, err := c.size()
	if err != nil {
		return err
	}
	if err := c.home.ResizeContainer(c.ctx(), c.name, size); err != nil {
		return err
	}
	return c.reply(http.StatusOK, nil)
}

func removeContainer(c *call) error {
	if c.flag("link") {
		return invalid(fmt.Errorf("links between containers are not there: use networks"))
	}
	o := forge.RemoveContainerOptions{Force: c.flag("force"), Volumes: c.flag("v")}
	if err := c.home.RemoveContainer(context.WithoutCancel(c.ctx()), c.name, o); err != nil {
		return err
	}
	return c.done()
}

func pruneContainers(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	removed, bytes, err := c.home.PruneContainers(c.ctx(), filters)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"ContainersDeleted": removed, "SpaceReclaimed": bytes})
}

func commitContainer(c *call) error {
	name := c.query.Get("repo")
	if tag := c.query.Get("tag"); name != "" && tag != "" {
		name += ":" + tag
	}
	var changes []string
	for _, text := range c.query["changes"] {
		changes = append(changes, strings.Split(text, "\n")...)
	}
	o := forge.CommitOptions{
		Name: name, Author: c.query.Get("author"), Message: c.query.Get("comment"), Changes: changes,
		Running: c.query.Has("pause") && !c.flag("pause"),
	}
	if err := c.read(&o.Config, bodyOptional); err != nil {
		return err
	}
	img, err := c.home.CommitContainer(c.ctx(), c.query.Get("container"), o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, map[string]string{"Id": img.ID().String()})
}
