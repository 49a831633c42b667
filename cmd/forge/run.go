package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type runCmd struct {
	Detach     bool     `short:"d" help:"Run in the background, and print the container's ID."`
	Attach     []string `short:"a" sep:"none" help:"Which of stdin, stdout and stderr to attach to." placeholder:"STREAM"`
	DetachKeys string   `help:"Keys that end the attachment." placeholder:"KEYS"`
	SigProxy   bool     `help:"Pass signals on." default:"true" negatable:""`
	createFlags
}

type createCmd createFlags

// createFlags say what container to make.
type createFlags struct {
	lifeFlags
	healthFlags
	portFlags
	endpointFlags
	processFlags
	surroundingFlags
	securityFlags
	namespaceFlags
	limitFlags

	Insecure bool   `help:"Allow http, and TLS without verification."`
	Platform string `env:"DOCKER_DEFAULT_PLATFORM" help:"Platform of the image." placeholder:"OS/ARCH"`
	Pull     string `help:"always, missing or never." enum:"always,missing,never" default:"missing" placeholder:"WHEN"`

	Command []string `arg:"" optional:"" passthrough:"" help:"Image, and command instead of the image's." placeholder:"IMAGE [COMMAND]"`
}

// lifeFlags are forge.LifeOptions as flags.
type lifeFlags struct {
	Name        string   `help:"Name of the container." placeholder:"NAME"`
	Rm          bool     `help:"Remove the container when it ends."`
	Interactive bool     `short:"i" help:"Pass standard input on."`
	CIDFile     string   `name:"cidfile" help:"Write the container's ID to a file." placeholder:"FILE"`
	Restart     string   `help:"no, always, unless-stopped or on-failure[:N]." placeholder:"POLICY"`
	StopSignal  string   `help:"Signal that asks the container to end." placeholder:"SIGNAL"`
	StopTimeout *int     `help:"Seconds until a container that is stopped is killed." placeholder:"SECONDS"`
	Labels      []string `name:"label" short:"l" sep:"none" help:"Label." placeholder:"K[=V]"`
	LabelFiles  []string `name:"label-file" sep:"none" help:"File of labels, one a line." placeholder:"FILE"`
	Annotations []string `name:"annotation" sep:"none" help:"Annotation: kept, and shown by inspect." placeholder:"K=V"`
	Quiet       bool     `short:"q" help:"Do not show how the image is pulled."`
	Runtime     string   `hidden:""`
	LogDriver   string   `help:"json-file, local or none." placeholder:"DRIVER"`
	LogOpts     []string `name:"log-opt" sep:"none" help:"Option of the log." placeholder:"NAME=VALUE"`
}

// portFlags are forge.PortOptions as flags, endpointFlags are forge.EndpointOptions.
type portFlags struct {
	Publish    []string `short:"p" sep:"none" help:"Port of this machine that leads to one of the container." placeholder:"[[IP:]PORT:]PORT"`
	PublishAll bool     `short:"P" help:"Publish all exposed ports, at any ports."`
	Expose     []string `sep:"none" help:"Port that the container serves." placeholder:"PORT"`
}

type endpointFlags struct {
	NetworkAliases []string `name:"network-alias" sep:"none" help:"Another name in the network." placeholder:"NAME"`
	IP             string   `name:"ip" help:"Address in the network." placeholder:"IP"`
	IP6            string   `name:"ip6" help:"IPv6 address in the network." placeholder:"IP"`
	MACAddress     string   `name:"mac-address" help:"Hardware address in the network." placeholder:"MAC"`
}

// healthFlags are forge.HealthOptions as flags.
type healthFlags struct {
	HealthCmd           string        `help:"Command that says whether the container is well." placeholder:"COMMAND"`
	HealthInterval      time.Duration `help:"Time between two checks." placeholder:"TIME"`
	HealthTimeout       time.Duration `help:"Longest time of a check." placeholder:"TIME"`
	HealthStartPeriod   time.Duration `help:"Time in which failures do not count." placeholder:"TIME"`
	HealthStartInterval time.Duration `help:"Time between two checks in that." placeholder:"TIME"`
	HealthRetries       int           `help:"Failures in a row that make it unhealthy." placeholder:"N"`
	NoHealthcheck       bool          `help:"Ask never, whatever the image says."`
}

type processFlags struct {
	Env        []string `short:"e" sep:"none" help:"Variable; without a value, the caller's." placeholder:"K[=V]"`
	EnvFile    []string `help:"File of variables, one a line." placeholder:"FILE"`
	Entrypoint *string  `help:"Command instead of the image's entry point; empty for none." placeholder:"COMMAND"`
	Workdir    string   `short:"w" help:"Working directory." placeholder:"DIR"`
	User       string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	TTY        bool     `name:"tty" short:"t" help:"Give the container a terminal."`
}

// surroundingFlags are forge.SurroundingOptions as flags, and so on for those below.
type surroundingFlags struct {
	Network  string   `help:"default, none, host, container:NAME or a network that was created." aliases:"net" default:"default" placeholder:"MODE"`
	Hostname string   `short:"h" help:"Host name." placeholder:"NAME"`
	AddHosts []string `name:"add-host" sep:"none" help:"Line for /etc/hosts." placeholder:"HOST:IP"`
	DNS      []string `name:"dns" sep:"none" help:"Name server." placeholder:"IP"`
	Search   []string `name:"dns-search" sep:"none" help:"Domain that names are searched in." placeholder:"DOMAIN"`
	Resolver []string `name:"dns-option" aliases:"dns-opt" sep:"none" help:"Option of resolv.conf." placeholder:"OPTION"`
	Volumes  []string `name:"volume" short:"v" sep:"none" help:"Directory or file of this machine, or volume, to put into the container." placeholder:"[SRC:]DST[:ro]"`
	Mounts   []string `name:"mount" sep:"none" help:"As --volume and --tmpfs, in fields." placeholder:"type=bind|volume|tmpfs,FIELD=VALUE"`
	Tmpfs    []string `sep:"none" help:"Directory in memory." placeholder:"DST[:OPTIONS]"`
	Devices  []string `name:"device" sep:"none" help:"Device of this machine, or the name of a CDI device." placeholder:"SRC[:DST]"`

	VolumesFrom []string `sep:"none" help:"Volumes and directories of another container." placeholder:"CONTAINER[:ro]"`
}

type securityFlags struct {
	Privileged   bool     `help:"Take all defences away."`
	CapAdd       []string `help:"Add a capability, or ALL." placeholder:"CAP"`
	CapDrop      []string `help:"Drop a capability, or ALL." placeholder:"CAP"`
	SecurityOpts []string `name:"security-opt" sep:"none" help:"seccomp=unconfined|FILE or no-new-privileges." placeholder:"OPTION"`
	ReadOnly     bool     `help:"Make the root file system read-only."`
}

type namespaceFlags struct {
	IPC      string   `name:"ipc" help:"private, shareable, host or container:NAME." placeholder:"MODE"`
	PID      string   `name:"pid" help:"host or container:NAME." placeholder:"MODE"`
	UTS      string   `name:"uts" help:"host." placeholder:"MODE"`
	Cgroupns string   `help:"private or host." placeholder:"MODE"`
	Userns   string   `help:"host." placeholder:"MODE"`
	Sysctls  []string `name:"sysctl" sep:"none" help:"Setting of the kernel for the container." placeholder:"NAME=VALUE"`
	GroupAdd []string `sep:"none" help:"Another group of the user." placeholder:"GROUP"`
	Init     bool     `help:"Let process 1 be one that reaps and passes signals on."`
}

// limitFlags are forge.LimitOptions as flags.
type limitFlags struct {
	CPUs       string `name:"cpus" help:"Processors." placeholder:"N"`
	CPUPeriod  int64  `name:"cpu-period" help:"Over how long --cpu-quota is counted, in microseconds." placeholder:"N"`
	CPUQuota   int64  `name:"cpu-quota" help:"Time of processors in a period, in microseconds." placeholder:"N"`
	CPUShares  int64  `name:"cpu-shares" short:"c" help:"Share of the processors, against others." placeholder:"N"`
	CpusetCPUs string `name:"cpuset-cpus" help:"Which processors: 0-3 or 0,2." placeholder:"LIST"`
	CpusetMems string `name:"cpuset-mems" help:"Which nodes of memory: 0-1 or 0,1." placeholder:"LIST"`

	Memory            string   `short:"m" help:"Memory, in bytes or with a unit: 512m, 2g." placeholder:"BYTES"`
	MemorySwap        string   `help:"Memory and swap together; -1 is no limit." placeholder:"BYTES"`
	MemoryReservation string   `help:"Memory that is left where it is short." placeholder:"BYTES"`
	ShmSize           string   `help:"Size of /dev/shm, in bytes or with a unit; 64m if not given." placeholder:"BYTES"`
	Pids              int64    `name:"pids-limit" help:"How many processes and threads; -1 is no limit." placeholder:"N"`
	Ulimits           []string `name:"ulimit" sep:"none" help:"Limit of the process." placeholder:"NAME=SOFT[:HARD]"`
	OOMKillDisable    bool     `name:"oom-kill-disable" help:"Do not kill where memory is short."`
	OOMScoreAdj       int      `name:"oom-score-adj" help:"How willing the kernel is to kill it, -1000 to 1000." placeholder:"N"`
}

// Help is shown below the usage.
func (c *runCmd) Help() string {
	return "Exit status: the command's; 125 if forge failed, 126 if the command could not be executed, 127 if it was not found, 128+n if signal n ended it."
}

func (c *runCmd) Run(s *session) error {
	return runStatus(s.withHome(func(h *forge.Home) error { return c.run(s, h) }))
}

// run runs a container.
func (c *runCmd) run(s *session, h *forge.Home) error {
	o, err := c.options(s.ctx, "run")
	if err != nil {
		return wrongFlags(err)
	}
	switch {
	case c.Detach && len(c.Attach) > 0:
		return errors.New("conflicting options: cannot specify both --attach and --detach")
	case !c.Detach && c.TTY && c.Interactive:
		if err := needTerminal(s.in); err != nil {
			return err
		}
	}
	o.StdinOnce, o.Detached = c.Interactive && !c.Detach, c.Detach
	show := c.progress(s)
	defer show.Close()
	if !c.Detach && c.Rm && !(c.TTY && c.Interactive) {
		return c.here(s, h, o, show)
	}
	id, err := h.CreateContainer(s.ctx, o, show.Event)
	if err != nil {
		return err
	}
	if err := c.writeID(s.ctx, id); err != nil {
		return err
	}
	if !c.Detach {
		return c.attached(s, h, id, show)
	}
	if err := h.StartContainer(s.ctx, id, show.Event); err != nil {
		return c.discard(s, h, id, err)
	}
	_, err = fmt.Fprintln(s.out, id)
	return err
}

// discard removes a container that could not be started and is not meant to stay.
func (c *runCmd) discard(s *session, h *forge.Home, id string, err error) error {
	if !c.Rm {
		return err
	}
	return errors.Join(err, h.RemoveContainer(context.WithoutCancel(s.ctx), id, forge.RemoveContainerOptions{Force: true, Volumes: true}))
}

// here runs the container in this process: it is gone when this ends.
func (c *runCmd) here(s *session, h *forge.Home, o forge.ContainerOptions, show ui.Display) error {
	t := tty{session: s, home: h, terminal: c.TTY, proxy: c.SigProxy, only: c.Attach}
	return t.attach(c.Interactive, func(streams forge.Streams) (int, error) {
		return h.RunHere(s.ctx, o, streams, show.Event, func(id string) error {
			t.ref = id
			if t.proxy {
				s.signals.forward(func(sig syscall.Signal) { _ = h.SignalContainer(s.ctx, id, sig) })
			}
			return c.writeID(s.ctx, id)
		})
	})
}

// attached starts a container in a process of its own and stays with it until it ends.
func (c *runCmd) attached(s *session, h *forge.Home, id string, show ui.Display) error {
	t := tty{session: s, home: h, ref: id, terminal: c.TTY, keys: c.DetachKeys, proxy: c.SigProxy, only: c.Attach}
	err := t.attach(c.Interactive, func(streams forge.Streams) (int, error) {
		return h.RunAttached(s.ctx, id, streams, show.Event)
	})
	switch {
	case errors.Is(err, forge.ErrDetached):
		return nil
	case err != nil && s.ctx.Err() == nil:
		if _, ended := errors.AsType[status](err); !ended {
			return c.discard(s, h, id, err)
		}
	}
	return err
}

// Run makes a container and prints its ID.
func (cmd *createCmd) Run(s *session) error {
	c := (*createFlags)(cmd)
	o, err := c.options(s.ctx, "create")
	if err != nil {
		return wrongFlags(err)
	}
	show := c.progress(s)
	defer show.Close()
	return runStatus(s.withHome(func(h *forge.Home) error {
		id, err := h.CreateContainer(s.ctx, o, show.Event)
		if err != nil {
			return err
		}
		if err := c.writeID(s.ctx, id); err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, id)
		return err
	}))
}

// wrongFlags gives docker's exit status to a mistake in the flags of a container.
func wrongFlags(err error) error {
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	return &usageError{status: usageStatus, err: err}
}

// runStatus gives docker's exit statuses to what kept a command from running.
func runStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[status](err); ok {
		return err
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	code := usageStatus
	if e, ok := errors.AsType[*forge.CommandError](err); ok {
		code = e.Code
	}
	return &failure{code, err}
}

// progress shows how the image is pulled.
func (c *createFlags) progress(s *session) ui.Display {
	if c.Quiet {
		return ui.New("quiet", s.err)
	}
	return ui.New("auto", s.err)
}

// writeID writes the container's ID to the file that is to have it.
func (c *createFlags) writeID(ctx context.Context, id string) error {
	if c.CIDFile == "" {
		return nil
	}
	return forge.WriteCIDFile(ctx, c.CIDFile, id)
}

// options turns flags into what is wanted of a container.
func (c *createFlags) options(ctx context.Context, verb string) (o forge.ContainerOptions, err error) {
	if len(c.Command) > 0 && c.Command[0] == "--" { // which ends the flags
		c.Command = c.Command[1:]
	}
	switch {
	case len(c.Command) == 0:
		return o, badUsage(fmt.Errorf("%s needs an image: forge %s [flags] IMAGE [COMMAND]", verb, verb))
	case strings.HasPrefix(c.Command[0], "-"): // kong takes it for the first word of the command
		return o, fmt.Errorf("unknown flag: %s", c.Command[0])
	}
	o.RunOptions = forge.RunOptions{
		Image: c.Command[0], Platform: c.Platform, Pull: forge.PullPolicy(c.Pull), Insecure: c.Insecure,
		ProcessOptions: forge.ProcessOptions{
			Args: c.Command[1:], Env: c.Env, EnvFiles: c.EnvFile, Workdir: c.Workdir, User: c.User, TTY: c.TTY,
		},
		SurroundingOptions: forge.SurroundingOptions(c.surroundingFlags),
		SecurityOptions:    forge.SecurityOptions(c.securityFlags),
		NamespaceOptions:   forge.NamespaceOptions(c.namespaceFlags),
		LimitOptions:       forge.LimitOptions(c.limitFlags),
	}
	if c.Entrypoint != nil {
		o.Entrypoint = []string{*c.Entrypoint}
	}
	o.LifeOptions = forge.LifeOptions{
		Name: c.Name, Interactive: c.Interactive, StdinOnce: c.Interactive, AutoRemove: c.Rm, Restart: c.Restart,
		StopSignal: c.StopSignal, StopTimeout: c.StopTimeout, Labels: c.Labels, LogDriver: c.LogDriver, LogOpts: c.LogOpts,
		HealthOptions: forge.HealthOptions(c.healthFlags), PortOptions: forge.PortOptions(c.portFlags),
		EndpointOptions: forge.EndpointOptions(c.endpointFlags),
	}
	o.LabelFiles, o.Annotations = c.LabelFiles, c.Annotations
	if c.Runtime != "" && c.Runtime != "forge" {
		return o, fmt.Errorf("unknown or invalid runtime name: %s: forge runs containers itself", c.Runtime)
	}
	if c.CIDFile != "" {
		if err := forge.CheckCIDFile(c.CIDFile); err != nil {
			return o, err
		}
	}
	return o, o.Check(ctx)
}
