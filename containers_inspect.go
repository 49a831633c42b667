package forge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/image"
)

// A ContainerInspection is a container as docker's API shows it. Field names are docker's.
type ContainerInspection struct {
	ID              string `json:"Id"`
	Created         Timestamp
	Path            string
	Args            []string
	State           InspectedState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      InspectedHostConfig
	Mounts          []InspectedMount
	Config          InspectedConfig
	NetworkSettings InspectedNetworks
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
}

// Id is ID for templates, which docker lets use the names of the JSON.
func (c *ContainerInspection) Id() string { return c.ID } //nolint:staticcheck // docker's name

// InspectedState is what a container does.
type InspectedState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  Timestamp
	FinishedAt Timestamp
	Health     *InspectedHealth `json:",omitempty"`
}

// InspectedHealth is what the health check has found.
type InspectedHealth struct {
	Status        string
	FailingStreak int
	Log           []InspectedResult
}

// An InspectedResult is what one run of the health check has found.
type InspectedResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

// InspectedConfig is what a container is, on any machine.
type InspectedConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  *InspectedHealthcheck `json:",omitempty"`
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	StopTimeout  *int     `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// An InspectedHealthcheck is how a container is asked whether it is well; times are in nanoseconds.
type InspectedHealthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// InspectedHostConfig is what a container has of this machine.
type InspectedHostConfig struct {
	Binds             []string
	ContainerIDFile   string
	LogConfig         InspectedLog
	NetworkMode       string
	PortBindings      map[string][]InspectedBinding
	RestartPolicy     InspectedPolicy
	AutoRemove        bool
	VolumesFrom       []string
	CapAdd            []string
	CapDrop           []string
	DNS               []string `json:"Dns"`
	ExtraHosts        []string
	Privileged        bool
	ReadonlyRootfs    bool
	SecurityOpt       []string
	Tmpfs             map[string]string `json:",omitempty"`
	ShmSize           int64
	CPUShares         int64 `json:"CpuShares"`
	Memory            int64
	MemorySwap        int64
	MemoryReservation int64
	NanoCPUs          int64  `json:"NanoCpus"`
	CPUPeriod         int64  `json:"CpuPeriod"`
	CPUQuota          int64  `json:"CpuQuota"`
	CpusetCpus        string //nolint:staticcheck // docker's name
	CpusetMems        string
	PidsLimit         int64
	OomKillDisable    bool
	OomScoreAdj       int
	Runtime           string
}

// InspectedLog says how the log is kept.
type InspectedLog struct {
	Type   string
	Config map[string]string
}

// InspectedPolicy is the restart policy.
type InspectedPolicy struct {
	Name              string
	MaximumRetryCount int
}

// A Timestamp is a time that templates show as docker's inspect does (RFC 3339).
type Timestamp struct{ time.Time }

// String is in UTC, with as many digits as there are.
func (t Timestamp) String() string { return t.UTC().Format(time.RFC3339Nano) }

// An InspectedBinding is a port of this machine that leads to one of a container.
type InspectedBinding struct{ HostIp, HostPort string } //nolint:staticcheck // docker's names

// An InspectedMount is a file system that is mounted in a container.
type InspectedMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// InspectedNetworks is how a container is connected.
type InspectedNetworks struct {
	Ports       map[string][]InspectedBinding
	Networks    map[string]InspectedEndpoint
	IPAddress   string
	Gateway     string
	MacAddress  string
	IPPrefixLen int
	SandboxKey  string
	InspectedIPv6
}

// An InspectedIPv6 is an address of a container; "" if it has none.
type InspectedIPv6 struct {
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
}

// An InspectedEndpoint is a container's place in a network.
type InspectedEndpoint struct {
	NetworkID   string
	Gateway     string
	IPAddress   string
	IPPrefixLen int
	MacAddress  string
	Aliases     []string
	InspectedIPv6
}

// InspectContainer shows everything about a container.
func (h *Home) InspectContainer(ctx context.Context, ref string) (*ContainerInspection, error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return nil, err
	}
	run, status, err := h.containers().Run(r.ID)
	if err != nil {
		return nil, err
	}
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return nil, err
	}
	c := &ContainerInspection{
		ID: r.ID, Created: Timestamp{r.Created}, Image: r.ImageID.String(), Name: "/" + r.Name, RestartCount: run.Restarts,
		Platform: img.Config.OS, LogPath: h.logPath(r.ID), State: inspectState(run, status), Args: []string{},
	}
	if r.Config.LogDriver == "none" {
		c.LogPath = ""
	}
	if store, err := h.Snapshots(); err == nil {
		kind, _ := store.Kind()
		c.Driver = string(kind)
	}
	if len(r.Config.Command) > 0 {
		c.Path, c.Args = r.Config.Command[0], r.Config.Command[1:]
	}
	if c.Config, err = inspectConfig(r, img); err != nil {
		return nil, err
	}
	if c.HostConfig, err = inspectHostConfig(r); err != nil {
		return nil, err
	}
	c.Mounts = h.inspectMounts(r)
	c.NetworkSettings = inspectNetworks(run)
	return c, nil
}

func inspectState(run *state.Run, status state.Status) InspectedState {
	s := InspectedState{
		Status: string(status), Running: status.Alive() || status == state.Restarting, Paused: status == state.Paused,
		Restarting: status == state.Restarting, OOMKilled: run.OOM, Dead: status == state.Dead, Pid: run.Ref.Pid,
		ExitCode: run.ExitCode, Error: run.Error, StartedAt: Timestamp{run.Started}, FinishedAt: Timestamp{run.Finished},
	}
	if run.Health != nil {
		s.Health = &InspectedHealth{Status: run.Health.Status, FailingStreak: run.Health.FailingStreak, Log: []InspectedResult{}}
		for _, r := range run.Health.Log {
			s.Health.Log = append(s.Health.Log, InspectedResult(r))
		}
	}
	return s
}

// inspectConfig is the image's configuration under the container's.
func inspectConfig(r *containerRecord, img *image.Image) (InspectedConfig, error) {
	o, merged := &r.Config, img.Config
	if err := o.over(&merged); err != nil {
		return InspectedConfig{}, err
	}
	base := &merged.Config
	options, err := o.parse()
	if err != nil {
		return InspectedConfig{}, err
	}
	if err := o.complete(&options, img, r.ID); err != nil {
		return InspectedConfig{}, err
	}
	c := InspectedConfig{
		Hostname: options.Hostname, User: options.Process.User, AttachStdin: o.StdinOnce, AttachStdout: true, AttachStderr: true,
		ExposedPorts: base.ExposedPorts, Tty: o.TTY, OpenStdin: o.Interactive, StdinOnce: o.StdinOnce, Image: r.Image,
		Volumes: base.Volumes, WorkingDir: options.Process.Dir, Entrypoint: base.Entrypoint, Cmd: base.Cmd, Labels: o.Labels,
		StopSignal: o.stopSignal(img), StopTimeout: o.StopTimeout, Shell: base.Shell,
	}
	c.Env = slices.DeleteFunc(container.Environment(options.Process.Env, "/"), func(kv string) bool {
		return strings.HasPrefix(kv, "HOSTNAME=") || kv == "HOME=/" || kv == "TERM=xterm"
	})
	if test := healthCommand(o, img); test != nil {
		h := healthCheck(o, img)
		c.Healthcheck = &InspectedHealthcheck{
			Test: append([]string{"CMD"}, test...), Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return c, nil
}

func inspectHostConfig(r *containerRecord) (InspectedHostConfig, error) {
	o := &r.Config
	limits, err := container.ParseLimits(o.LimitOptions)
	if err != nil {
		return InspectedHostConfig{}, err
	}
	name, count, _ := strings.Cut(o.Restart, ":")
	binds, _ := o.volumeFlags(nil)
	h := InspectedHostConfig{
		Binds: binds, VolumesFrom: o.VolumesFrom, NetworkMode: o.Network, AutoRemove: o.AutoRemove, CapAdd: o.CapAdd, CapDrop: o.CapDrop, DNS: o.DNS,
		ExtraHosts: o.AddHosts, Privileged: o.Privileged, ReadonlyRootfs: o.ReadOnly, SecurityOpt: o.SecurityOpts,
		ShmSize: limits.ShmSize, CPUShares: limits.CPUShares, Memory: limits.Memory, MemorySwap: limits.MemorySwap,
		MemoryReservation: limits.MemoryReservation, NanoCPUs: limits.NanoCPUs, CpusetCpus: limits.CPUs, CpusetMems: limits.Mems,
		CPUPeriod: limits.CPUPeriod, CPUQuota: limits.CPUQuota, PidsLimit: limits.Pids,
		OomKillDisable: limits.OOMKillDisable, OomScoreAdj: limits.OOMScoreAdj, Runtime: "forge",
		LogConfig:     InspectedLog{Type: "json-file", Config: map[string]string{}},
		PortBindings:  map[string][]InspectedBinding{},
		RestartPolicy: InspectedPolicy{Name: "no"},
	}
	if h.NetworkMode == "" || h.NetworkMode == "default" {
		h.NetworkMode = "bridge"
	}
	if o.LogDriver != "" {
		h.LogConfig.Type = o.LogDriver
	}
	for _, opt := range o.LogOpts {
		k, v, _ := strings.Cut(opt, "=")
		h.LogConfig.Config[k] = v
	}
	if name != "" {
		h.RestartPolicy.Name = name
		h.RestartPolicy.MaximumRetryCount, _ = strconv.Atoi(count) // checked when it was given
	}
	for _, t := range o.Tmpfs {
		if h.Tmpfs == nil {
			h.Tmpfs = map[string]string{}
		}
		target, options, _ := strings.Cut(t, ":")
		h.Tmpfs[target] = options
	}
	return h, nil
}

func inspectNetworks(run *state.Run) InspectedNetworks {
	n := InspectedNetworks{Ports: map[string][]InspectedBinding{}, Networks: map[string]InspectedEndpoint{}}
	for _, p := range run.Ports {
		key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		n.Ports[key] = append(n.Ports[key], InspectedBinding{p.HostIP, strconv.Itoa(int(p.Host))})
	}
	for _, name := range slices.Sorted(maps.Keys(run.Networks)) {
		e := run.Networks[name]
		address, bits, _ := strings.Cut(e.Address, "/")
		length, _ := strconv.Atoi(bits)
		six := InspectedIPv6{IPv6Gateway: e.Gateway6}
		six.GlobalIPv6Address, bits, _ = strings.Cut(e.Address6, "/")
		six.GlobalIPv6PrefixLen, _ = strconv.Atoi(bits)
		n.Networks[name] = InspectedEndpoint{
			InspectedIPv6: six,
			NetworkID:     e.NetworkID, Gateway: e.Gateway, IPAddress: address, IPPrefixLen: length, MacAddress: e.MAC, Aliases: e.Aliases,
		}
		if n.IPAddress == "" {
			n.IPAddress, n.IPPrefixLen, n.Gateway, n.MacAddress = address, length, e.Gateway, e.MAC
			n.InspectedIPv6 = six
		}
	}
	if run.Ref.Pid != 0 {
		n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", run.Ref.Pid)
	}
	return n
}
