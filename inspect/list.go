package inspect

// An Exec is a process in a container as docker's API shows it. Field names are docker's.
type Exec struct {
	ID            string
	ContainerID   string
	Running       bool
	ExitCode      *int // nil before the end
	ProcessConfig ExecProcess
	OpenStdin     bool
	OpenStderr    bool
	OpenStdout    bool
	CanRemove     bool
	DetachKeys    string
	Pid           int
}

// An ExecProcess is what is run.
type ExecProcess struct {
	Tty        bool     `json:"tty"`
	Entrypoint string   `json:"entrypoint"`
	Arguments  []string `json:"arguments"`
	Privileged bool     `json:"privileged"`
	User       string   `json:"user,omitempty"`
}

// A ContainerSummary is a container in docker's list of containers. Field names are docker's.
type ContainerSummary struct {
	ID              string `json:"Id"`
	Names           []string
	Image           string
	ImageID         string
	Command         string
	Created         int64 // seconds since 1970
	Ports           []Port
	SizeRw          int64 `json:",omitempty"`
	SizeRootFs      int64 `json:",omitempty"`
	Labels          map[string]string
	State           string
	Status          string
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct{ Networks map[string]Endpoint }
	Mounts          []Mount
}

// A Port is a port of a container, and where it is published.
type Port struct {
	IP          string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}
