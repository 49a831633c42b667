package forge

// InspectedHostConfig is what a container has of this machine.
type InspectedHostConfig struct {
	Binds           []string
	ContainerIDFile string
	LogConfig       InspectedLog
	NetworkMode     string
	PortBindings    map[string][]InspectedBinding
	RestartPolicy   InspectedPolicy
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
	InspectedResources
	Mounts        []InspectedMountPoint `json:",omitempty"`
	MaskedPaths   []string
	ReadonlyPaths []string
	Init          *bool `json:",omitempty"`
}

// InspectedResources are the limits of a container, which an update may change.
type InspectedResources struct {
	CPUShares            int64 `json:"CpuShares"`
	Memory               int64
	NanoCPUs             int64 `json:"NanoCpus"`
	CgroupParent         string
	BlkioWeight          uint16
	BlkioWeightDevice    []InspectedThrottle
	BlkioDeviceReadBps   []InspectedThrottle
	BlkioDeviceWriteBps  []InspectedThrottle
	BlkioDeviceReadIOps  []InspectedThrottle
	BlkioDeviceWriteIOps []InspectedThrottle
	CPUPeriod            int64  `json:"CpuPeriod"`
	CPUQuota             int64  `json:"CpuQuota"`
	CPURealtimePeriod    int64  `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64  `json:"CpuRealtimeRuntime"`
	CpusetCpus           string //nolint:staticcheck // docker's name
	CpusetMems           string
	Devices              []InspectedDevice
	DeviceCgroupRules    []string
	DeviceRequests       []InspectedRequest
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     *int64
	OomKillDisable       *bool
	PidsLimit            *int64
	Ulimits              []InspectedUlimit
	CPUCount             int64 `json:"CpuCount"`
	CPUPercent           int64 `json:"CpuPercent"`
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64
}

// An InspectedThrottle bounds or weighs what is read from, or written to, a block device.
type InspectedThrottle struct {
	Path   string
	Rate   uint64 `json:",omitempty"`
	Weight uint16 `json:",omitempty"`
}

// An InspectedDevice is a device of this machine that a container has.
type InspectedDevice struct{ PathOnHost, PathInContainer, CgroupPermissions string }

// An InspectedRequest asks for devices by what they can do, or by the names of a driver.
type InspectedRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

// An InspectedUlimit is a limit of a process; -1 is none.
type InspectedUlimit struct {
	Name string
	Hard int64
	Soft int64
}

// An InspectedMountPoint is a mount as it was asked for in fields.
type InspectedMountPoint struct {
	Type          string
	Source        string `json:",omitempty"`
	Target        string
	ReadOnly      bool                    `json:",omitempty"`
	Consistency   string                  `json:",omitempty"`
	BindOptions   *InspectedBindOptions   `json:",omitempty"`
	VolumeOptions *InspectedVolumeOptions `json:",omitempty"`
	TmpfsOptions  *InspectedTmpfsOptions  `json:",omitempty"`
}

// InspectedBindOptions are those of a directory or file of this machine.
type InspectedBindOptions struct {
	Propagation            string `json:",omitempty"`
	NonRecursive           bool   `json:",omitempty"`
	CreateMountpoint       bool   `json:",omitempty"`
	ReadOnlyNonRecursive   bool   `json:",omitempty"`
	ReadOnlyForceRecursive bool   `json:",omitempty"`
}

// InspectedVolumeOptions are those of a volume.
type InspectedVolumeOptions struct {
	NoCopy       bool              `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Subpath      string            `json:",omitempty"`
	DriverConfig *struct {
		Name    string            `json:",omitempty"`
		Options map[string]string `json:",omitempty"`
	} `json:",omitempty"`
}

// InspectedTmpfsOptions are those of a directory in memory.
type InspectedTmpfsOptions struct {
	SizeBytes int64      `json:",omitempty"`
	Mode      uint32     `json:",omitempty"`
	Options   [][]string `json:",omitempty"`
}
