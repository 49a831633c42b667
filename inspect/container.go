// Package inspect has the structures of docker's Engine API for containers, images and networks, which its JSON has and its templates see. The
// command line prints them, and package api sends them and reads them where a request has the same form. Field names are docker's, and so
// are the numbers of fields: that many there are. Where docker has an empty list or null, so have these.
package inspect

import (
	"encoding/json"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/image"
)

// A Container is a container as docker's API shows it.
type Container struct {
	ID              string `json:"Id"`
	Created         Timestamp
	Path            string
	Args            []string
	State           State
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
	HostConfig      HostConfig
	GraphDriver     Driver
	Mounts          []Mount
	Config          Config
	NetworkSettings Networks
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
}

// Id is ID for templates, which docker lets use the names of the JSON.
func (c *Container) Id() string { return c.ID } //nolint:staticcheck // docker's name

// A Driver says how a file system is stored.
type Driver struct {
	Data map[string]string
	Name string
}

// State is what a container does.
type State struct {
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

// Config is what a container is, on any machine.
type Config struct {
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
	Healthcheck     *image.Healthcheck `json:",omitempty"`
	ArgsEscaped     bool               `json:",omitempty"`
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

// Log says how the log is kept.
type Log struct {
	Type   string
	Config map[string]string
}

// Policy is the restart policy.
type Policy struct {
	Name              string
	MaximumRetryCount int
}

// A Timestamp is a time that templates show as docker's inspect does (RFC 3339).
type Timestamp struct{ time.Time }

// String is in UTC, with as many digits as there are.
func (t Timestamp) String() string { return t.UTC().Format(time.RFC3339Nano) }

// A Binding is a port of this machine that leads to one of a container.
type Binding struct{ HostIp, HostPort string } //nolint:staticcheck // docker's names

// A Mount is a file system that is mounted in a container.
type Mount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// Networks is how a container is connected.
type Networks struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]Binding
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
	IPv6
	Networks map[string]Endpoint
}

// An IPv6 is an address of a container; "" if it has none.
type IPv6 struct {
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
}

// An Endpoint is a container's place in a network.
type Endpoint struct {
	IPAMConfig  *Addresses
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
	IPv6
	DNSNames []string
}

// Addresses are those that were asked for in a network.
type Addresses struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}
