package forge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// InspectContainer shows everything about a container.
func (h *Home) InspectContainer(ctx context.Context, ref string) (*ContainerInspection, error) {
	r, run, status, err := h.findRun(ref)
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
	c.GraphDriver = InspectedDriver{Name: c.Driver}
	c.NetworkSettings, c.ExecIDs = h.inspectNetworks(r, run, c.Config.ExposedPorts), h.runningExecs(r.ID)
	return c, nil
}

func inspectState(run *state.Run, status state.Status) InspectedState {
	s := InspectedState{
		Status: string(status), Running: status.Alive() || status == state.Restarting, Paused: status == state.Paused,
		Restarting: status == state.Restarting, OOMKilled: run.OOM, Dead: status == state.Dead, Pid: run.Ref.Pid,
		ExitCode: run.ExitCode, Error: run.Error, StartedAt: Timestamp{run.Started}, FinishedAt: Timestamp{run.Finished},
	}
	if run.Health != nil {
		health := *run.Health
		health.Log = append([]state.HealthResult{}, health.Log...) // docker has an empty list and not null
		s.Health = &health
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
		Hostname: options.Hostname, User: options.Process.User, AttachStdin: o.StdinOnce, AttachStdout: !o.Detached, AttachStderr: !o.Detached,
		ExposedPorts: base.ExposedPorts, Tty: o.TTY, OpenStdin: o.Interactive, StdinOnce: o.StdinOnce, Image: r.Image,
		Volumes: base.Volumes, WorkingDir: options.Process.Dir, Entrypoint: base.Entrypoint, Cmd: base.Cmd, Labels: o.Labels,
		StopSignal: o.stopSignal(img), StopTimeout: o.StopTimeout, Shell: base.Shell,
	}
	c.Env = slices.DeleteFunc(container.Environment(options.Process.Env, "/"), func(kv string) bool {
		return strings.HasPrefix(kv, "HOSTNAME=") || kv == "HOME=/" || kv == "TERM=xterm"
	})
	slices.SortStableFunc(c.Env, func(a, b string) int { return cmp.Compare(o.envOrder(a), o.envOrder(b)) })
	c.Healthcheck = inspectHealthcheck(o, img)
	return c, nil
}

// envOrder is where a variable stands among those of a container: docker has those of the flags first, and then the image's.
func (o *containerConfig) envOrder(kv string) int {
	name, _, _ := strings.Cut(kv, "=")
	i := slices.IndexFunc(o.Env, func(given string) bool { return given == name || strings.HasPrefix(given, name+"=") })
	if i < 0 {
		return len(o.Env)
	}
	return i
}

// inspectHealthcheck is the health check as it was asked for; nil if nothing was said of any.
func inspectHealthcheck(o *containerConfig, img *image.Image) *InspectedHealthcheck {
	h := &InspectedHealthcheck{
		Test: o.HealthTest, Interval: o.HealthInterval, Timeout: o.HealthTimeout, StartPeriod: o.HealthStartPeriod,
		StartInterval: o.HealthStartInterval, Retries: o.HealthRetries,
	}
	switch {
	case o.NoHealthcheck:
		h.Test = []string{"NONE"}
	case o.HealthCmd != "":
		h.Test = []string{"CMD-SHELL", o.HealthCmd}
	}
	if i := img.Config.Config.Healthcheck; i != nil {
		if len(h.Test) == 0 {
			h.Test = i.Test
		}
		h.Interval, h.Timeout = cmp.Or(h.Interval, i.Interval), cmp.Or(h.Timeout, i.Timeout)
		h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, i.StartPeriod), cmp.Or(h.StartInterval, i.StartInterval)
		h.Retries = cmp.Or(h.Retries, i.Retries)
	}
	if len(h.Test) == 0 && h.Interval == 0 && h.Timeout == 0 && h.StartPeriod == 0 && h.StartInterval == 0 && h.Retries == 0 {
		return nil
	}
	return h
}

func inspectHostConfig(r *containerRecord) (InspectedHostConfig, error) {
	o := &r.Config
	limits, err := container.ParseLimits(o.LimitOptions)
	if err != nil {
		return InspectedHostConfig{}, err
	}
	sysctls, err := o.sysctls()
	if err != nil {
		return InspectedHostConfig{}, err
	}
	binds, _ := o.volumeFlags(nil)
	h := InspectedHostConfig{
		Binds: binds, VolumesFrom: o.VolumesFrom, NetworkMode: networkMode(o.Network), AutoRemove: o.AutoRemove, CapAdd: capabilities(o.CapAdd), CapDrop: capabilities(o.CapDrop), DNS: o.DNS,
		DNSOptions: o.Resolver, DNSSearch: o.Search, GroupAdd: o.GroupAdd, PidMode: o.PID, UTSMode: o.UTS, UsernsMode: o.Userns,
		IpcMode: cmp.Or(o.IPC, "private"), CgroupnsMode: cmp.Or(o.Cgroupns, "private"), Sysctls: sysctls, PublishAllPorts: o.PublishAll,
		ExtraHosts: o.AddHosts, Privileged: o.Privileged, ReadonlyRootfs: o.ReadOnly, SecurityOpt: o.SecurityOpts, ConsoleSize: o.ConsoleSize,
		OomScoreAdj: limits.OOMScoreAdj, ShmSize: cmp.Or(limits.ShmSize, runtime.DefaultShm), Runtime: "forge",
		LogConfig:          InspectedLog{Type: cmp.Or(o.LogDriver, "json-file"), Config: map[string]string{}},
		InspectedResources: inspectResources(o, limits),
	}
	if o.Init {
		h.Init = &o.Init
	}
	if !o.Privileged {
		h.MaskedPaths, h.ReadonlyPaths = runtime.MaskedPaths(), runtime.ReadOnlyPaths()
	}
	for _, list := range []*[]string{&h.DNS, &h.DNSOptions, &h.DNSSearch} {
		if *list == nil {
			*list = []string{}
		}
	}
	for _, opt := range o.LogOpts {
		k, v, _ := strings.Cut(opt, "=")
		h.LogConfig.Config[k] = v
	}
	h.RestartPolicy = inspectPolicy(o.Restart)
	for _, t := range o.Tmpfs {
		if h.Tmpfs == nil {
			h.Tmpfs = map[string]string{}
		}
		target, options, _ := strings.Cut(t, ":")
		h.Tmpfs[target] = options
	}
	if len(o.Annotations) > 0 {
		h.Annotations = pairs(o.Annotations)
	}
	if h.Mounts, err = inspectMountFlags(o.Mounts); err != nil {
		return h, err
	}
	h.PortBindings, err = o.bindings()
	return h, err
}

// capabilities are names as docker writes them down: "net_admin" is "CAP_NET_ADMIN".
func capabilities(names []string) (full []string) {
	for _, name := range names {
		if name = strings.ToUpper(name); name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		full = append(full, name)
	}
	slices.Sort(full)
	return full
}

func inspectPolicy(restart string) InspectedPolicy {
	name, count, _ := strings.Cut(restart, ":")
	p := InspectedPolicy{Name: cmp.Or(name, "no")}
	p.MaximumRetryCount, _ = strconv.Atoi(count) // checked when it was given
	return p
}

func inspectResources(o *containerConfig, limits runtime.Limits) InspectedResources {
	i := InspectedResources{
		CPUShares: limits.CPUShares, Memory: limits.Memory, MemorySwap: limits.MemorySwap, MemoryReservation: limits.MemoryReservation,
		NanoCPUs: limits.NanoCPUs, CpusetCpus: limits.CPUs, CpusetMems: limits.Mems, CPUPeriod: limits.CPUPeriod, CPUQuota: limits.CPUQuota,
		OomKillDisable: &o.OOMKillDisable, Devices: []InspectedDevice{}, Ulimits: []InspectedUlimit{},
	}
	if i.MemorySwap == 0 { // what the kernel is told then
		i.MemorySwap = 2 * i.Memory
	}
	none := []InspectedThrottle{}
	i.BlkioWeightDevice, i.BlkioDeviceReadBps, i.BlkioDeviceWriteBps, i.BlkioDeviceReadIOps, i.BlkioDeviceWriteIOps = none, none, none, none, none
	if limits.Pids != 0 {
		i.PidsLimit = &limits.Pids
	}
	for _, u := range limits.Ulimits {
		i.Ulimits = append(i.Ulimits, InspectedUlimit{Name: u.Name, Hard: int64(u.Hard), Soft: int64(u.Soft)}) // no limit is -1, as docker has it
	}
	for _, d := range o.Devices {
		if !strings.HasPrefix(d, "/") {
			i.DeviceRequests = append(i.DeviceRequests, InspectedRequest{Driver: "cdi", DeviceIDs: []string{d}})
			continue
		}
		parts := strings.Split(d, ":")
		device := InspectedDevice{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		if len(parts) > 1 && strings.HasPrefix(parts[1], "/") {
			device.PathInContainer = parts[1]
		}
		i.Devices = append(i.Devices, device)
	}
	return i
}

// inspectMountFlags are the values of --mount.
func inspectMountFlags(flags []string) (list []InspectedMountPoint, err error) {
	points, err := container.ParseMounts(nil, flags, nil)
	for _, p := range points {
		m := InspectedMountPoint{Type: p.Type, Source: cmp.Or(p.Source, p.Name), Target: p.Target, ReadOnly: p.ReadOnly}
		switch {
		case p.Type == "bind" && (p.Propagation != "" || p.Create):
			m.BindOptions = &InspectedBindOptions{Propagation: p.Propagation, CreateMountpoint: p.Create}
		case p.Type == "volume" && (p.NoCopy || p.Subpath != "" || p.Labels != nil):
			m.VolumeOptions = &InspectedVolumeOptions{NoCopy: p.NoCopy, Subpath: p.Subpath, Labels: p.Labels}
		case p.Type == "tmpfs" && p.Memory != "":
			m.TmpfsOptions = &InspectedTmpfsOptions{}
			m.TmpfsOptions.SizeBytes, m.TmpfsOptions.Mode = p.TmpfsSize()
		}
		list = append(list, m)
	}
	return list, err
}

// bindings are the ports that are to be published, by the container's.
func (o *PortOptions) bindings() (map[string][]InspectedBinding, error) {
	all := map[string][]InspectedBinding{}
	for _, text := range o.Publish {
		ports, err := network.ParsePorts(text)
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			key := fmt.Sprintf("%d/%s", p.Container, p.Protocol)
			b := InspectedBinding{}
			if p.Address.IsValid() {
				b.HostIp = p.Address.String()
			}
			if p.First != 0 {
				b.HostPort = strconv.Itoa(int(p.First))
			}
			if p.Last > p.First {
				b.HostPort += "-" + strconv.Itoa(int(p.Last))
			}
			all[key] = append(all[key], b)
		}
	}
	return all, nil
}

// inspectNetworks says how a container is connected, or will be.
func (h *Home) inspectNetworks(r *containerRecord, run *state.Run, exposed map[string]struct{}) InspectedNetworks {
	n := InspectedNetworks{Ports: map[string][]InspectedBinding{}, Networks: map[string]InspectedEndpoint{}}
	if run.Ref.Pid != 0 {
		n.SandboxKey, n.SandboxID = fmt.Sprintf("/proc/%d/ns/net", run.Ref.Pid), r.ID
		for port := range exposed {
			n.Ports[port] = nil
		}
	}
	for _, p := range run.Ports {
		key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		n.Ports[key] = append(n.Ports[key], InspectedBinding{p.HostIP, strconv.Itoa(int(p.Host))})
	}
	for i, a := range r.Config.Networks {
		e := h.inspectEndpoint(r, a, run.Networks[a.Network])
		n.Networks[a.Network] = e
		if i == 0 && (a.Network == network.DefaultName || run.Networks != nil) {
			n.IPAddress, n.IPPrefixLen, n.Gateway, n.MacAddress, n.EndpointID = e.IPAddress, e.IPPrefixLen, e.Gateway, e.MacAddress, e.EndpointID
			n.InspectedIPv6 = e.InspectedIPv6
		}
	}
	if mode := r.Config.Network; mode == "none" || mode == "host" {
		n.Networks[mode] = h.inspectEndpoint(r, attachment{Network: mode}, state.Endpoint{})
	}
	return n
}

// inspectEndpoint is a container's place in a network: as it was asked for and, while it runs, as it is.
func (h *Home) inspectEndpoint(r *containerRecord, a attachment, e state.Endpoint) InspectedEndpoint {
	i := InspectedEndpoint{
		Aliases: a.NetworkAliases, MacAddress: cmp.Or(e.MAC, a.MACAddress), NetworkID: e.NetworkID, EndpointID: e.ID, Gateway: e.Gateway,
	}
	i.IPv6Gateway = e.Gateway6
	address, bits, _ := strings.Cut(e.Address, "/")
	i.IPAddress = address
	i.IPPrefixLen, _ = strconv.Atoi(bits)
	i.GlobalIPv6Address, bits, _ = strings.Cut(e.Address6, "/")
	i.GlobalIPv6PrefixLen, _ = strconv.Atoi(bits)
	if a.IP != "" || a.IP6 != "" {
		i.IPAMConfig = &InspectedAddresses{IPv4Address: a.IP, IPv6Address: a.IP6}
	}
	if i.NetworkID == "" {
		if n, err := h.Networks().Find(a.Network); err == nil { // else it has been removed meanwhile
			i.NetworkID = n.ID
		}
	}
	if ownNetwork(a.Network) && a.Network != network.DefaultName {
		i.DNSNames = slices.Concat([]string{r.Name}, a.NetworkAliases, []string{r.ID[:12]})
		if r.Config.Hostname != "" && !slices.Contains(i.DNSNames, r.Config.Hostname) {
			i.DNSNames = append(i.DNSNames, r.Config.Hostname)
		}
	}
	return i
}
