package forge

import (
	"encoding/json"
	"time"

	"github.com/forge-build/forge/container/state"
)

// The structures of docker's Engine API for containers, which its JSON has and its templates see. The command line prints them, and package
// api sends them and reads them where a request has the same form. Field names are docker's, and so are the numbers of fields: that many
// there are. Where docker has an empty list or null, so have these.

// A ContainerInspection is a container as docker's API shows it.
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
	GraphDriver     InspectedDriver
	Mounts          []InspectedMount
	Config          InspectedConfig
	NetworkSettings InspectedNetworks
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
}

// Id is ID for templates, which docker lets use the names of the JSON.
func (c *ContainerInspection) Id() string { return c.ID } //nolint:staticcheck // docker's name

// An InspectedDriver says how a file system is stored.
type InspectedDriver struct {
	Data map[string]string
	Name string
}

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
	Health     *state.Health `json:",omitempty"`
}

// Words are the words of a command. In JSON one alone may stand for a list of one, as docker has it.
type Words []string

// UnmarshalJSON reads both.
func (w *Words) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		*w = Words{""}
		return json.Unmarshal(raw, &(*w)[0])
	}
	return json.Unmarshal(raw, (*[]string)(w))
}

// InspectedConfig is what a container is, on any machine.
type InspectedConfig struct {
	Hostname        string
	Domainname      string
	User            string
	AttachStdin     bool
	AttachStdout    bool
	AttachStderr    bool
	ExposedPorts    map[string]struct{} `json:",omitempty"`
	Tty             bool
	OpenStdin       bool
	StdinOnce       bool
	Env             []string
	Cmd             Words
	Healthcheck     *InspectedHealthcheck `json:",omitempty"`
	ArgsEscaped     bool                  `json:",omitempty"`
	Image           string
	Volumes         map[string]struct{}
	WorkingDir      string
	Entrypoint      Words
	NetworkDisabled bool   `json:",omitempty"`
	MacAddress      string `json:",omitempty"`
	OnBuild         []string
	Labels          map[string]string
	StopSignal      string   `json:",omitempty"`
	StopTimeout     *int     `json:",omitempty"`
	Shell           []string `json:",omitempty"`
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

// Options are the times and the number, as options have them. The test is not among them.
func (h *InspectedHealthcheck) Options() HealthOptions {
	return HealthOptions{
		HealthInterval: h.Interval, HealthTimeout: h.Timeout, HealthStartPeriod: h.StartPeriod, HealthStartInterval: h.StartInterval,
		HealthRetries: h.Retries,
	}
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
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]InspectedBinding
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	IPAddress              string
	IPPrefixLen            int
	MacAddress             string
	InspectedIPv6
	Networks map[string]InspectedEndpoint
}

// An InspectedIPv6 is an address of a container; "" if it has none.
type InspectedIPv6 struct {
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
}

// An InspectedEndpoint is a container's place in a network.
type InspectedEndpoint struct {
	IPAMConfig  *InspectedAddresses
	Links       []string
	Aliases     []string
	MacAddress  string
	DriverOpts  map[string]string
	GwPriority  int
	NetworkID   string
	EndpointID  string
	Gateway     string
	IPAddress   string
	IPPrefixLen int
	InspectedIPv6
	DNSNames []string
}

// InspectedAddresses are those that were asked for in a network.
type InspectedAddresses struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}
