package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/api/buildkit"
	"github.com/forge-build/forge/event"
)

// buildRoutes are about builds of clients that send the whole context with the request, and show what they are told. Buildx speaks
// another protocol.
func buildRoutes() []route {
	return []route{{method: http.MethodPost, pattern: "/build", do: build}}
}

func build(c *call) error {
	defer c.duplex()()
	o, err := c.buildOptions()
	if err != nil {
		return err
	}
	quiet := c.flag("q")
	return c.messages(func(send func(any) error) error {
		show := &buildLog{send: send}
		if !quiet {
			o.Events = show.event
		}
		r, err := c.home.Build(c.ctx(), o)
		if err != nil {
			return buildError(err)
		}
		id := r.ID().String()
		if quiet {
			return send(message{Stream: id + "\n"})
		}
		show.say(message{Aux: map[string]string{"ID": id}})
		_, hex, _ := strings.Cut(id, ":")
		show.line("Successfully built " + hex[:shortID])
		for _, tag := range r.Tags {
			show.line("Successfully tagged " + tag.Familiar())
		}
		return show.err
	})
}

// A commandError is the error of a build of which a command failed.
type commandError struct {
	error

	code int // its exit status
}

func (e *commandError) Unwrap() error { return e.error }

// buildError is the error of a build with the lines of the build file that it is about.
func buildError(err error) error {
	failed, ok := errors.AsType[*forge.FailedStep](err)
	if is[*forge.SyntaxError](err) {
		return invalid(err)
	}
	if !ok {
		return registryError(err)
	}
	text := err.Error()
	if failed.Excerpt != "" {
		text += "\n" + failed.Excerpt
	}
	return &commandError{errors.New(text), failed.ExitCode}
}

// buildOptions are those of the query. What docker's old builder had to be told and forge needs not, such as whether to remove its
// containers, is taken without effect.
func (c *call) buildOptions() (o forge.BuildOptions, err error) {
	q := c.query
	if session := q.Get("session"); q.Get("version") == "2" && session != "" {
		return o, invalid(errors.New("builds over a session go through buildx: install docker's plugin buildx, or set DOCKER_BUILDKIT=0"))
	}
	for _, key := range []string{"cgroupparent", "isolation"} {
		if v := q.Get(key); v != "" && v != "default" {
			return o, invalid(fmt.Errorf("%s=%s: steps of a build have the cgroup and the isolation that forge runs with", key, v))
		}
	}
	if q.Get("dockerfile") == "-" {
		return o, invalid(errors.New("dockerfile - is no file of the context"))
	}
	o.Context, o.Stdin, o.File = "-", c.r.Body, q.Get("dockerfile")
	if remote := q.Get("remote"); remote != "" {
		if !buildkit.RemoteContext(remote) {
			return o, invalid(fmt.Errorf("remote context %s is neither a repository nor http: files of this machine are sent as the request's body", remote))
		}
		o.Context, o.Stdin = remote, nil
	}
	if o.RemoteOptions, err = c.remote(); err != nil {
		return o, err
	}
	o.Target, o.NoCache, o.Squash = q.Get("target"), c.flag("nocache"), c.flag("squash")
	if c.flag("pull") {
		o.Pull = forge.PullAlways
	}
	o.Network, o.AddHosts, o.SecurityOpts = q.Get("networkmode"), q["extrahosts"], q["securityopt"]
	for _, t := range q["t"] {
		if t == "" {
			continue
		}
		if _, err := forge.RegistryOf(t); err != nil {
			return o, invalid(err)
		}
		o.Tags = append(o.Tags, t)
	}
	platform, err := c.platform()
	if err != nil {
		return o, err
	}
	if platform != "" {
		o.Platforms = []string{platform}
	}
	if err := c.buildTables(&o); err != nil {
		return o, err
	}
	return o, c.buildLimits(&o)
}

// buildTables reads what the query has as JSON.
func (c *call) buildTables(o *forge.BuildOptions) error {
	var args map[string]*string
	labels, from := map[string]string{}, []string{}
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	for key, v := range map[string]any{"buildargs": &args, "labels": &labels, "cachefrom": &from, "outputs": &outputs} {
		if text := c.query.Get(key); text != "" {
			if err := json.Unmarshal([]byte(text), v); err != nil {
				return invalid(fmt.Errorf("error reading %s: %w", key, err))
			}
		}
	}
	for _, out := range outputs {
		if out.Type != "" && out.Type != "image" && out.Type != "moby" {
			return invalid(fmt.Errorf("output %s: this request answers with a log, and has no place for files: build with buildx, or with forge build", out.Type))
		}
	}
	o.Args = map[string]string{}
	for k, v := range args {
		if v != nil { // else docker unsets it, and it has the build file's value
			o.Args[k] = *v
		}
	}
	o.Labels = assignments(labels)
	for _, name := range from {
		if name == "" {
			continue
		}
		spec, err := forge.ParseCacheFrom(name)
		if err != nil {
			return invalid(err)
		}
		o.From = append(o.From, spec)
	}
	return nil
}

// buildLimits reads the limits of steps, in docker's units: bytes and microseconds.
func (c *call) buildLimits(o *forge.BuildOptions) error {
	q := c.query
	for key, to := range map[string]*string{"memory": &o.Memory, "memswap": &o.MemorySwap, "shmsize": &o.ShmSize} {
		if n, given, err := c.number(key); err != nil {
			return err
		} else if given && n != 0 {
			*to = strconv.Itoa(n)
		}
	}
	for key, to := range map[string]*int64{"cpushares": &o.CPUShares, "cpuperiod": &o.CPUPeriod, "cpuquota": &o.CPUQuota} {
		n, _, err := c.number(key)
		if err != nil {
			return err
		}
		*to = int64(n)
	}
	o.CpusetCPUs, o.CpusetMems = q.Get("cpusetcpus"), q.Get("cpusetmems")
	var ulimits []struct {
		Name       string
		Soft, Hard int64
	}
	if text := q.Get("ulimits"); text != "" {
		if err := json.Unmarshal([]byte(text), &ulimits); err != nil {
			return invalid(fmt.Errorf("error reading ulimits: %w", err))
		}
	}
	for _, u := range ulimits {
		o.Ulimits = append(o.Ulimits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return nil
}

// A buildLog shows the events of a build as docker's old builder does, one at a time.
type buildLog struct {
	send  func(any) error
	steps int   // that are planned
	begun int   // that have been shown
	err   error // of the first message that could not be sent
}

func (b *buildLog) say(m message) {
	if b.err == nil {
		b.err = b.send(m)
	}
}

func (b *buildLog) line(text string) { b.say(message{Stream: text + "\n"}) }

func (b *buildLog) event(e event.Event) {
	switch e.Kind {
	case event.Planned:
		b.steps++
	case event.Cached, event.Started:
		if e.Step == nil {
			return
		}
		b.begun++
		b.line(fmt.Sprintf("Step %d/%d : %s", b.begun, b.steps, e.Step.Name))
		if e.Kind == event.Cached && e.Step.Kind != event.Base {
			b.line(" ---> Using cache")
		}
	case event.Log, event.Note:
		b.line(e.Text)
	case event.Warning, event.Lint:
		b.line("[Warning] " + e.Text)
	}
}
