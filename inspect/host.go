package inspect

import "github.com/forge-build/forge/container"

// HostConfig is what a container has of this machine.
type HostConfig struct {
	Binds           []string
	ContainerIDFile string
	LogConfig       Log
	NetworkMode     string
	PortBindings    map[string][]Binding
	RestartPolicy   Policy
	AutoRemove      bool
	VolumeDriver    string
	VolumesFrom     []string
	ConsoleSize     [2]uint           // rows and columns
	Annotations     map[string]string `json:",omitempty"`
	CapAdd          []string
	CapDrop         []string
	CgroupnsMode    string
	DNS             []string `json:"Dns"`
	DNSOptions      []string `json:"DnsOptions"`
	DNSSearch       []string `json:"DnsSearch"`
	ExtraHosts      []string
	GroupAdd        []string
	IpcMode         string
	Cgroup          string
	Links           []string
	OomScoreAdj     int
	PidMode         string
	Privileged      bool
	PublishAllPorts bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	StorageOpt      map[string]string `json:",omitempty"`
	Tmpfs           map[string]string `json:",omitempty"`
	UTSMode         string
	UsernsMode      string
	ShmSize         int64
	Sysctls         map[string]string `json:",omitempty"`
	Runtime         string
	Isolation       string
	Resources
	Mounts        []MountPoint `json:",omitempty"`
	MaskedPaths   []string
	ReadonlyPaths []string
	Init          *bool `json:",omitempty"`
}

// Resources are the limits of a container, which an update may change.
type Resources struct {
	CPUShares            int64 `json:"CpuShares"`
	Memory               int64
	NanoCPUs             int64 `json:"NanoCpus"`
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []Throttle
	BlkioDeviceReadBps   []Throttle
	BlkioDeviceWriteBps  []Throttle
	BlkioDeviceReadIOps  []Throttle
	BlkioDeviceWriteIOps []Throttle
	CPUPeriod            int64  `json:"CpuPeriod"`
	CPUQuota             int64  `json:"CpuQuota"`
	CPURealtimePeriod    int64  `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64  `json:"CpuRealtimeRuntime"`
	CpusetCpus           string //nolint:staticcheck // docker's name
	CpusetMems           string
	Devices              []Device
	DeviceCgroupRules    []string
	DeviceRequests       []DeviceRequest
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     *int64
	OomKillDisable       *bool
	PidsLimit            *int64
	Ulimits              []Ulimit
	CPUCount             int64 `json:"CpuCount"`
	CPUPercent           int64 `json:"CpuPercent"`
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64
}

// A Throttle bounds or weighs what is read from, or written to, a block device.
type Throttle struct {
	Path   string
	Rate   uint64 `json:",omitempty"`
	Weight uint16 `json:",omitempty"`
}

// A Device is a device of this machine that a container has.
type Device struct{ PathOnHost, PathInContainer, CgroupPermissions string }

// A DeviceRequest asks for devices by what they can do, or by the names of a driver.
type DeviceRequest = container.DeviceRequest

// A Ulimit is a limit of a process; -1 is none.
type Ulimit struct {
	Name string
	Hard int64
	Soft int64
}

// A MountPoint is a mount as it was asked for in fields.
type MountPoint struct {
	Type          string
	Source        string `json:",omitempty"`
	Target        string
	ReadOnly      bool           `json:",omitempty"`
	Consistency   string         `json:",omitempty"`
	BindOptions   *BindOptions   `json:",omitempty"`
	VolumeOptions *VolumeOptions `json:",omitempty"`
	TmpfsOptions  *TmpfsOptions  `json:",omitempty"`
}

// BindOptions are those of a directory or file of this machine.
type BindOptions struct {
	Propagation            string `json:",omitempty"`
	NonRecursive           bool   `json:",omitempty"`
	CreateMountpoint       bool   `json:",omitempty"`
	ReadOnlyNonRecursive   bool   `json:",omitempty"`
	ReadOnlyForceRecursive bool   `json:",omitempty"`
}

// VolumeOptions are those of a volume.
type VolumeOptions struct {
	NoCopy       bool              `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Subpath      string            `json:",omitempty"`
	DriverConfig *struct {
		Name    string            `json:",omitempty"`
		Options map[string]string `json:",omitempty"`
	} `json:",omitempty"`
}

// TmpfsOptions are those of a directory in memory.
type TmpfsOptions struct {
	SizeBytes int64      `json:",omitempty"`
	Mode      uint32     `json:",omitempty"`
	Options   [][]string `json:",omitempty"`
}
