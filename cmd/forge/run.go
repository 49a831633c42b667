package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/runtime"
)

type runCmd struct {
	Rm          bool   `help:"Remove the container when it ends."`
	Interactive bool   `short:"i" help:"Pass standard input on."`
	TTY         bool   `name:"tty" short:"t" help:"Give the container a terminal."`
	Detach      bool   `short:"d" hidden:""`
	Name        string `hidden:""`

	Env        []string `short:"e" sep:"none" help:"Variable; without a value, the caller's." placeholder:"K[=V]"`
	EnvFile    []string `help:"File of variables, one a line." placeholder:"FILE"`
	Entrypoint *string  `help:"Command instead of the image's entry point; empty for none." placeholder:"COMMAND"`
	Workdir    string   `short:"w" help:"Working directory." placeholder:"DIR"`
	User       string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	Hostname   string   `short:"h" help:"Host name." placeholder:"NAME"`
	Volume     []string `short:"v" sep:"none" help:"Directory or file of this machine to put into the container." placeholder:"SRC:DST[:ro]"`
	Tmpfs      []string `sep:"none" help:"Directory in memory." placeholder:"DST[:size=N]"`
	Network    string   `help:"default, none or host." aliases:"net" default:"default" placeholder:"MODE"`
	AddHost    []string `sep:"none" help:"Line for /etc/hosts." placeholder:"HOST:IP"`
	DNS        []string `name:"dns" sep:"none" help:"Name server." placeholder:"IP"`

	Privileged  bool     `help:"Take all defences away."`
	CapAdd      []string `help:"Add a capability, or ALL." placeholder:"CAP"`
	CapDrop     []string `help:"Drop a capability, or ALL." placeholder:"CAP"`
	SecurityOpt []string `sep:"none" help:"seccomp=unconfined|FILE or no-new-privileges." placeholder:"OPTION"`
	ReadOnly    bool     `help:"Make the root file system read-only."`
	Memory      string   `short:"m" help:"Memory." placeholder:"BYTES"`
	CPUs        float64  `name:"cpus" help:"Processors." placeholder:"N"`
	PidsLimit   int64    `help:"Processes." placeholder:"N"`
	ShmSize     string   `help:"Size of /dev/shm." placeholder:"BYTES"`
	Ulimit      []string `sep:"none" help:"Limit of the process." placeholder:"NAME=SOFT[:HARD]"`

	Insecure bool   `help:"Allow http, and TLS without verification."`
	Platform string `help:"Platform of the image." placeholder:"OS/ARCH"`
	Pull     string `help:"always, missing or never." enum:"always,missing,never" default:"missing" placeholder:"WHEN"`

	Command []string `arg:"" optional:"" passthrough:"" help:"Image, and command instead of the image's." placeholder:"IMAGE [COMMAND]"`
}

// Help is shown below the usage.
func (c *runCmd) Help() string {
	return "Exit status: the command's; 125 if forge failed, 126 if the command could not be executed, 127 if it was not found, 128+n if signal n ended it."
}

func (c *runCmd) Run(s *session) error {
	switch {
	case len(c.Command) == 0:
		return &usageError{usageStatus, errors.New("run needs an image: forge run --rm [flags] IMAGE [COMMAND]")}
	case strings.HasPrefix(c.Command[0], "-"): // kong takes it for the first word of the command
		return &usageError{usageStatus, fmt.Errorf("unknown flag %s; see forge run --help", c.Command[0])}
	}
	o, err := c.options(s)
	if err != nil {
		return &usageError{usageStatus, err}
	}
	show := ui.New("auto", s.err)
	defer show.Close()
	o.RemoteOptions = forge.RemoteOptions{Insecure: c.Insecure, Events: show.Event}
	err = s.withHome(func(h *forge.Home) error {
		restore, err := c.wire(s, &o)
		if err != nil {
			return err
		}
		exit, err := h.Run(s.ctx, o)
		restore()
		if err == nil && exit.Code != 0 {
			return status(exit.Code)
		}
		return err
	})
	return runStatus(err)
}

// runStatus gives docker's exit statuses to what kept a command from running.
func runStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[status](err); ok {
		return err
	}
	e, ok := errors.AsType[*runtime.ExecError](err)
	if !ok {
		return &usageError{usageStatus, err}
	}
	bare := !strings.Contains(e.Path, "/")
	switch {
	case bare && errors.Is(e.Err, os.ErrNotExist):
		return &usageError{127, fmt.Errorf("exec: %q: executable file not found in $PATH", e.Path)}
	case errors.Is(e.Err, os.ErrNotExist), bare && !errors.Is(e.Err, os.ErrPermission):
		return &usageError{127, fmt.Errorf("exec: %q: %w", e.Path, e.Err)}
	}
	return &usageError{126, fmt.Errorf("exec: %q: %w", e.Path, e.Err)}
}

// options turns flags into what forge.Run wants.
func (c *runCmd) options(s *session) (forge.RunOptions, error) {
	o := forge.RunOptions{
		Image: c.Command[0], Args: c.Command[1:], Dir: c.Workdir, User: c.User, Hostname: c.Hostname,
		Terminal: c.TTY, Network: c.Network, Hosts: c.AddHost, DNS: c.DNS, Pull: forge.PullPolicy(c.Pull),
		Security: runtime.Security{
			Privileged: c.Privileged, CapAdd: c.CapAdd, CapDrop: c.CapDrop, ReadOnlyRoot: c.ReadOnly,
		},
		Limits: runtime.Limits{NanoCPUs: int64(c.CPUs * 1e9), Pids: c.PidsLimit, Ulimits: c.Ulimit},
	}
	switch {
	case c.Detach || c.Name != "":
		return o, errors.New("containers that stay (-d, --name) are not there yet: run with --rm")
	case !c.Rm:
		return o, errors.New("containers that stay are not there yet: add --rm")
	}
	if c.Entrypoint != nil {
		o.Entrypoint = &[]string{}
		if *c.Entrypoint != "" {
			o.Entrypoint = &[]string{*c.Entrypoint}
		}
	}
	err := errors.Join(checkUlimits(c.Ulimit), c.network(&o))
	if err != nil {
		return o, err
	}
	if o.Platform, err = forge.ParsePlatform(c.Platform); err != nil {
		return o, err
	}
	if o.Env, err = c.env(); err != nil {
		return o, err
	}
	for _, v := range c.Volume {
		volume, err := forge.ParseVolume(v)
		if err != nil {
			return o, err
		}
		o.Volumes = append(o.Volumes, volume)
	}
	for _, v := range c.Tmpfs {
		volume, err := forge.ParseTmpfs(v)
		if err != nil {
			return o, err
		}
		o.Volumes = append(o.Volumes, volume)
	}
	if err := c.security(&o.Security); err != nil {
		return o, err
	}
	if o.Limits.Memory, err = bytesFlag("--memory", c.Memory); err != nil {
		return o, err
	}
	o.Limits.ShmSize, err = bytesFlag("--shm-size", c.ShmSize)
	return o, err
}

// network checks what says how the container reaches others. Docker's default is called bridge.
func (c *runCmd) network(o *forge.RunOptions) error {
	switch o.Network {
	case "bridge":
		o.Network = "default"
	case "default", "none", "host":
	default:
		return fmt.Errorf("--network %s: must be default, none or host", o.Network)
	}
	for _, server := range o.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return fmt.Errorf("--dns %s: must be an IP address", server)
		}
	}
	for _, host := range o.Hosts {
		if !strings.ContainsAny(host, ":=") {
			return fmt.Errorf("--add-host %s: must be HOST:IP", host)
		}
	}
	return nil
}

func checkUlimits(list []string) error {
	for _, limit := range list {
		if _, err := units.ParseUlimit(limit); err != nil {
			return fmt.Errorf("--ulimit %s: %w", limit, err)
		}
	}
	return nil
}

// bytesFlag reads a size such as 64m; "" is 0.
func bytesFlag(name, value string) (int64, error) {
	if value == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(value)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s %q: must be a size such as 64m", name, value)
	}
	return n, nil
}

func (c *runCmd) security(sec *runtime.Security) error {
	for _, opt := range c.SecurityOpt {
		name, value, _ := strings.Cut(opt, "=")
		if before, after, ok := strings.Cut(opt, ":"); ok && !strings.Contains(before, "=") {
			name, value = before, after
		}
		switch {
		case name == "seccomp" && value != "":
			sec.Seccomp = value
		case name == "no-new-privileges" && (value == "" || value == "true"):
			sec.NoNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
			sec.NoNewPrivileges = false
		default:
			return fmt.Errorf("--security-opt %q: must be seccomp=unconfined, seccomp=FILE or no-new-privileges", opt)
		}
	}
	return nil
}

// env is the variables of --env-file and --env, in this order. A name without a value takes the caller's, if it is set.
func (c *runCmd) env() ([]string, error) {
	var env []string
	add := func(line string) error {
		name, _, hasValue := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("variable %q: has no good name", line)
		}
		if hasValue {
			env = append(env, line)
		} else if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
		return nil
	}
	for _, file := range c.EnvFile {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			line := strings.TrimLeft(lines.Text(), " \t")
			if line == "" || line[0] == '#' {
				continue
			}
			if err := add(line); err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", file, err), f.Close())
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	for _, line := range c.Env {
		if err := add(line); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// wire connects the caller's standard streams, signals and terminal size to the process to be. What it returns puts
// the terminal back.
func (c *runCmd) wire(s *session, o *forge.RunOptions) (restore func(), err error) {
	restore = func() {}
	o.Stdio.Out, o.Stdio.Err = os.Stdout, os.Stderr
	if c.Interactive {
		o.Stdio.In = s.in
	}
	onTerminal := term.IsTerminal(int(s.in.Fd()))
	if c.TTY && c.Interactive && !onTerminal {
		return restore, errors.New("the input device is not a terminal: leave out -t")
	}
	if c.TTY && c.Interactive {
		old, err := term.MakeRaw(int(s.in.Fd()))
		if err != nil {
			return restore, fmt.Errorf("terminal: %w", err)
		}
		restore = func() { _ = term.Restore(int(s.in.Fd()), old) }
	}
	o.Started = func(p *runtime.Process) {
		s.signals.forward(p)
		if c.TTY {
			followSize(p)
		}
	}
	return restore, nil
}

// followSize gives the process's terminal the size of the caller's, now and whenever it changes.
func followSize(p *runtime.Process) {
	resize := func() {
		if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
			_ = p.Resize(uint16(rows), uint16(cols))
		}
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	resize()
	go func() { // ends with the program, as the process it serves does
		for range changed {
			resize()
		}
	}()
}
