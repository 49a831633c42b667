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
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// InspectContainer shows everything about a container.
func (h *Home) InspectContainer(ctx context.Context, ref string) (*inspect.Container, error) {
	r, run, status, err := h.findRun(ref)
	if err != nil {
		return nil, err
	}
	img, err := h.containerImage(ctx, r)
	if err != nil {
		return nil, err
	}
	c := &inspect.Container{
		ID: r.ID, Created: inspect.Timestamp{Time: r.Created}, Image: r.ImageID.String(), Name: "/" + r.Name, RestartCount: run.Restarts,
		Platform: img.Config.OS, LogPath: h.logPath(r.ID), State: inspect.StateOf(run, status), Args: []string{},
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
	c.HostConfig.Links, c.Mounts = h.inspectLinks(r), h.inspectMounts(r)
	c.GraphDriver = inspect.Driver{Name: c.Driver}
	c.NetworkSettings, c.ExecIDs = h.inspectNetworks(r, run, c.Config.ExposedPorts), h.runningExecs(r.ID)
	return c, nil
}

// inspectConfig is the image's configuration under the container's.
func inspectConfig(r *containerRecord, img *image.Image) (inspect.Config, error) {
	o, merged := &r.Config, img.Config
	if err := o.over(&merged); err != nil {
		return inspect.Config{}, err
	}
	base := &merged.Config
	options, err := o.parse()
	if err != nil {
		return inspect.Config{}, err
	}
	if err := o.complete(&options, img, r.ID); err != nil {
		return inspect.Config{}, err
	}
	c := inspect.Config{
		Hostname: options.Hostname, Domainname: o.Domain, User: options.Process.User,
		AttachStdin: o.StdinOnce || slices.Contains(o.Attach, "stdin"), AttachStdout: o.attaches("stdout"), AttachStderr: o.attaches("stderr"),
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

// attaches reports whether output of the container, "stdout" or "stderr", was to be attached at its start.
func (o *containerConfig) attaches(stream string) bool {
	return !o.Detached && (len(o.Attach) == 0 || slices.Contains(o.Attach, stream))
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
func inspectHealthcheck(o *containerConfig, img *image.Image) *image.Healthcheck {
	h := &image.Healthcheck{
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

func inspectHostConfig(r *containerRecord) (inspect.HostConfig, error) {
	o := &r.Config
	limits, err := container.ParseLimits(o.LimitOptions)
	if err != nil {
		return inspect.HostConfig{}, err
	}
	if limits.BlockIO, err = container.ParseBlockIO(o.BlockOptions); err != nil {
		return inspect.HostConfig{}, err
	}
	sysctls, err := o.sysctls()
	if err != nil {
		return inspect.HostConfig{}, err
	}
	binds, _ := o.volumeFlags(nil)
	h := inspect.HostConfig{
		Binds: binds, VolumesFrom: o.VolumesFrom, NetworkMode: networkMode(o.Network), AutoRemove: o.AutoRemove, CapAdd: inspect.Capabilities(o.CapAdd), CapDrop: inspect.Capabilities(o.CapDrop), DNS: o.DNS,
		DNSOptions: o.Resolver, DNSSearch: o.Search, GroupAdd: o.GroupAdd, PidMode: o.PID, UTSMode: o.UTS, UsernsMode: o.Userns,
		IpcMode: cmp.Or(o.IPC, "private"), CgroupnsMode: cmp.Or(o.Cgroupns, "private"), Sysctls: sysctls, PublishAllPorts: o.PublishAll,
		ExtraHosts: o.AddHosts, Privileged: o.Privileged, ReadonlyRootfs: o.ReadOnly, SecurityOpt: o.SecurityOpts, ConsoleSize: o.ConsoleSize,
		OomScoreAdj: limits.OOMScoreAdj, ShmSize: cmp.Or(limits.ShmSize, runtime.DefaultShm), Runtime: "forge",
		LogConfig: inspect.Log{Type: cmp.Or(o.LogDriver, "json-file"), Config: map[string]string{}},
		Resources: inspect.ResourcesOf(limits, o.Devices),
	}
	h.DeviceRequests = append(h.DeviceRequests, o.DeviceRequests...)
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
	h.RestartPolicy = inspect.PolicyOf(o.Restart)
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
	if h.Mounts, err = inspect.MountPoints(o.Mounts); err != nil {
		return h, err
	}
	h.PortBindings, err = inspect.Bindings(o.Publish)
	return h, err
}

// inspectNetworks says how a container is connected, or will be.
func (h *Home) inspectNetworks(r *containerRecord, run *state.Run, exposed map[string]struct{}) inspect.Networks {
	n := inspect.Networks{Ports: map[string][]inspect.Binding{}, Networks: map[string]inspect.Endpoint{}}
	if run.Ref.Pid != 0 {
		n.SandboxKey, n.SandboxID = fmt.Sprintf("/proc/%d/ns/net", run.Ref.Pid), r.ID
		for port := range exposed {
			n.Ports[port] = nil
		}
	}
	for _, p := range run.Ports {
		key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		n.Ports[key] = append(n.Ports[key], inspect.Binding{HostIp: p.HostIP, HostPort: strconv.Itoa(int(p.Host))})
	}
	for i, a := range r.Config.Networks {
		e := h.inspectEndpoint(r, a, run.Networks[a.Network])
		n.Networks[a.Network] = e
		if i == 0 && (a.Network == network.DefaultName || run.Networks != nil) {
			n.IPAddress, n.IPPrefixLen, n.Gateway, n.MacAddress, n.EndpointID = e.IPAddress, e.IPPrefixLen, e.Gateway, e.MacAddress, e.EndpointID
			n.IPv6 = e.IPv6
		}
	}
	if mode := r.Config.Network; mode == "none" || mode == "host" {
		n.Networks[mode] = h.inspectEndpoint(r, attachment{Network: mode}, state.Endpoint{})
	}
	return n
}

// inspectEndpoint is a container's place in a network: as it was asked for and, while it runs, as it is.
func (h *Home) inspectEndpoint(r *containerRecord, a attachment, e state.Endpoint) inspect.Endpoint {
	i := inspect.Endpoint{
		Aliases: a.NetworkAliases, MacAddress: cmp.Or(e.MAC, a.MACAddress), NetworkID: e.NetworkID, EndpointID: e.ID, Gateway: e.Gateway,
	}
	i.IPv6Gateway = e.Gateway6
	address, bits, _ := strings.Cut(e.Address, "/")
	i.IPAddress = address
	i.IPPrefixLen, _ = strconv.Atoi(bits)
	i.GlobalIPv6Address, bits, _ = strings.Cut(e.Address6, "/")
	i.GlobalIPv6PrefixLen, _ = strconv.Atoi(bits)
	if a.IP != "" || a.IP6 != "" {
		i.IPAMConfig = &inspect.Addresses{IPv4Address: a.IP, IPv6Address: a.IP6}
	}
	if i.NetworkID == "" {
		if n, err := h.Networks().Find(a.Network); err == nil { // else it has been removed meanwhile
			i.NetworkID = n.ID
		}
	}
	if len(a.DriverOpts) > 0 {
		i.DriverOpts = pairs(a.DriverOpts)
	}
	if ownNetwork(a.Network) && a.Network != network.DefaultName {
		i.Links = a.Links
		i.DNSNames = slices.Concat([]string{r.Name}, a.NetworkAliases, []string{r.ID[:12]})
		if r.Config.Hostname != "" && !slices.Contains(i.DNSNames, r.Config.Hostname) {
			i.DNSNames = append(i.DNSNames, r.Config.Hostname)
		}
	}
	return i
}
