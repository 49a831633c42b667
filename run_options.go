package forge

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/runtime"
)

// RunOptions say what to run and in what surroundings, in the words of docker's flags. They are plain data: written as JSON
// and read again, after [RunOptions.Check], they say the same in any process. The zero value of all but Image runs what the
// image says, with the defences of docs/security.md. What is a flag, and what the help says of it, stand behind the fields.
type RunOptions struct {
	Image    string
	Platform string // os/arch[/variant]; "" is this machine's
	Pull     PullPolicy
	Insecure bool // allow http, and TLS without verification
	ProcessOptions
	SurroundingOptions
	SecurityOptions
	NamespaceOptions
	LimitOptions
	BlockOptions
}

// ProcessOptions say what the process of a container is.
type ProcessOptions struct {
	Args       []string `kong:"-"`                                                                                 // instead of the image's Cmd
	Entrypoint []string `kong:"-"`                                                                                 // instead of the image's, whose Cmd goes with it; one empty word is none
	Env        []string `short:"e" sep:"none" help:"Variable; without a value, the caller's." placeholder:"K[=V]"` // over the image's, of which K alone takes one away
	EnvFiles   []string `name:"env-file" sep:"none" help:"File of variables, one a line." placeholder:"FILE"`      // before Env
	Workdir    string   `short:"w" help:"Working directory." placeholder:"DIR"`                                    // absolute
	User       string   `short:"u" help:"User or ID, with an optional group." placeholder:"USER[:GROUP]"`
	TTY        bool     `name:"tty" short:"t" help:"Give the container a terminal."`
}

// SurroundingOptions say what a container has of this machine and of others.
type SurroundingOptions struct {
	Network  string   `help:"default, none, host, container:NAME or a network that was created." aliases:"net" default:"default" placeholder:"MODE"` // "bridge" is docker's name for "default", which "" is, too
	Hostname string   `short:"h" help:"Host name." placeholder:"NAME"`                                                                               // "" is the container's ID, or this machine's name if the network is the host's
	Domain   string   `name:"domainname" help:"NIS domain name, which is in /etc/hosts, too." placeholder:"NAME"`
	AddHosts []string `name:"add-host" sep:"none" help:"Line for /etc/hosts." placeholder:"HOST:IP"`
	DNS      []string `name:"dns" sep:"none" help:"Name server." placeholder:"IP"`
	Search   []string `name:"dns-search" sep:"none" help:"Domain that names are searched in." placeholder:"DOMAIN"` // "." is none
	Resolver []string `name:"dns-option" aliases:"dns-opt" sep:"none" help:"Option of resolv.conf." placeholder:"OPTION"`
	Volumes  []string `name:"volume" short:"v" sep:"none" help:"Directory or file of this machine, or volume, to put into the container." placeholder:"[SRC:]DST[:ro]"`
	Mounts   []string `name:"mount" sep:"none" help:"As --volume and --tmpfs, in fields." placeholder:"type=bind|volume|tmpfs,FIELD=VALUE"`
	Tmpfs    []string `sep:"none" help:"Directory in memory." placeholder:"DST[:OPTIONS]"`
	Devices  []string `name:"device" sep:"none" help:"Device of this machine, or the name of a CDI device." placeholder:"SRC[:DST]"`

	DeviceRequests []container.DeviceRequest `kong:"-"` // --gpus

	VolumesFrom []string `sep:"none" help:"Volumes and directories of another container." placeholder:"CONTAINER[:ro]"`
}

// SecurityOptions loosen or tighten the defences.
type SecurityOptions struct {
	Privileged   bool     `help:"Take all defences away."`
	CapAdd       []string `help:"Add a capability, or ALL." placeholder:"CAP"`
	CapDrop      []string `help:"Drop a capability, or ALL." placeholder:"CAP"`
	SecurityOpts []string `name:"security-opt" sep:"none" help:"seccomp=unconfined|FILE or no-new-privileges." placeholder:"OPTION"` // after Check with the profile itself, as in docker's API
	ReadOnly     bool     `help:"Make the root file system read-only."`
}

// LimitOptions limit a container. The zero value does not.
type LimitOptions = container.LimitFlags

// ParseGPUs reads what --gpus asks for, as docker does.
func ParseGPUs(values []string) ([]container.DeviceRequest, error) {
	return container.ParseGPUs(values)
}

// BlockOptions limit what a container does with block devices. The zero value does not.
type BlockOptions = container.BlockFlags

// Check refuses what cannot be run, in docker's words, and makes the options independent of this process: paths of this
// machine become absolute, a seccomp profile and files of variables are read, variables without a value take that of this process, and docker's
// config.json adds proxies. It is for whoever takes the options from people, once.
func (o *RunOptions) Check(ctx context.Context) error {
	env, err := container.ParseEnv(ctx, o.EnvFiles, o.Env)
	if err != nil {
		return err
	}
	proxies, err := proxyEnv(env)
	if err != nil {
		return err
	}
	o.Env, o.EnvFiles = append(proxies, env...), nil
	c, err := o.parse()
	if err != nil {
		return err
	}
	if o.SecurityOpts, err = withProfile(ctx, c.Security); err != nil {
		return err
	}
	return o.makeAbsolute()
}

// withProfile are the options of --security-opt with the seccomp profile itself in the place of its file.
func withProfile(ctx context.Context, sec runtime.Security) (opts []string, err error) {
	if sec.Seccomp, err = container.SeccompProfile(ctx, sec.Seccomp); err != nil {
		return nil, err
	}
	if sec.Seccomp != "" {
		opts = append(opts, "seccomp="+sec.Seccomp)
	}
	if sec.NoNewPrivileges {
		opts = append(opts, "no-new-privileges")
	}
	return opts, nil
}

// parse reads what the options say of the container without knowing the image. The mounts are the devices; see wantedMounts.
func (o *RunOptions) parse() (c container.Options, err error) {
	c = container.Options{
		Process:  container.Process{Dir: o.Workdir, User: o.User, Terminal: o.TTY},
		Hostname: o.Hostname, Domain: o.Domain, Etc: container.EtcOfRun, Requests: o.DeviceRequests,
		Security: runtime.Security{Privileged: o.Privileged, CapAdd: o.CapAdd, CapDrop: o.CapDrop, ReadOnlyRoot: o.ReadOnly},
	}
	errs := []error{
		container.CheckHostname(o.Hostname), container.CheckDomainname(o.Domain), container.CheckDir(o.Workdir), container.CheckDNS(o.DNS),
		container.ParseSecurityOpts(o.SecurityOpts, &c.Security),
	}
	check := func(err error) { errs = append(errs, err) }
	check(container.CheckRequests(o.DeviceRequests))
	check(o.NamespaceOptions.check())
	if o.Domain != "" && o.UTS == "host" {
		check(errors.New("conflicting options: domainname and the UTS mode"))
	}
	mode := o.Network
	if mode == "bridge" { // docker's name for the default
		mode = "default"
	}
	c.Network = cmp.Or(mode, "default") // whether there is one of that name is asked when the container is created
	c.Hosts, err = container.ParseHosts(o.AddHosts)
	check(err)
	_, err = parsePlatform(o.Platform)
	check(err)
	_, err = container.ParseMounts(o.Volumes, o.Mounts, o.Tmpfs)
	check(err)
	for _, from := range o.VolumesFrom {
		_, _, err = container.ParseVolumesFrom(from)
		check(err)
	}
	c.Mounts, c.Devices, err = container.ParseDevices(o.Devices)
	check(err)
	c.Limits, err = container.ParseLimits(o.LimitOptions)
	check(err)
	c.Limits.BlockIO, err = container.ParseBlockIO(o.BlockOptions)
	check(err)
	return c, errors.Join(errs...)
}

// makeAbsolute makes the paths of this machine mean the same in any directory.
func (o *RunOptions) makeAbsolute() error {
	var errs []error
	absolute := func(path string) string {
		abs, err := filepath.Abs(path)
		errs = append(errs, err)
		return abs
	}
	for i, volume := range o.Volumes {
		if source, rest, _ := strings.Cut(volume, ":"); strings.HasPrefix(source, ".") {
			o.Volumes[i] = absolute(source) + ":" + rest
		}
	}
	for i, mount := range o.Mounts {
		fields, err := words.Fields(mount)
		for j, field := range fields {
			key, source, _ := strings.Cut(field, "=")
			if key = strings.ToLower(key); (key == "src" || key == "source") && strings.HasPrefix(source, ".") {
				fields[j] = key + "=" + absolute(source)
			}
		}
		errs = append(errs, err)
		o.Mounts[i] = words.JoinFields(fields)
	}
	return errors.Join(errs...)
}
