package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/inspect"
)

// surroundings puts into the options what the body says of this machine.
func (b *createBody) surroundings(o *forge.ContainerOptions) (err error) {
	h := &b.HostConfig
	o.Hostname, o.Domain, o.AddHosts, o.DNS, o.Search, o.Resolver = b.Hostname, b.Domainname, h.ExtraHosts, filled(h.DNS), h.DNSSearch, h.DNSOptions
	o.VolumesFrom = h.VolumesFrom
	for _, bind := range h.Binds {
		if strings.HasPrefix(bind, ".") {
			return fmt.Errorf("invalid volume specification: '%s': the path must be absolute", bind)
		}
		o.Volumes = append(o.Volumes, bind)
	}
	targets := mountTargets(h)
	for v := range b.Volumes {
		if !targets[v] {
			o.Volumes = append(o.Volumes, v)
		}
	}
	slices.Sort(o.Volumes[len(h.Binds):])
	for i := range h.Mounts {
		m, err := mountFlag(&h.Mounts[i])
		if err != nil {
			return err
		}
		o.Mounts = append(o.Mounts, m)
	}
	for _, target := range assignments(h.Tmpfs) {
		t, options, _ := strings.Cut(target, "=")
		o.Tmpfs = append(o.Tmpfs, strings.TrimSuffix(t+":"+options, ":"))
	}
	o.SecurityOptions = forge.SecurityOptions{Privileged: h.Privileged, CapAdd: h.CapAdd, CapDrop: h.CapDrop, SecurityOpts: h.SecurityOpt, ReadOnly: h.ReadonlyRootfs}
	for _, opt := range h.SecurityOpt {
		if profile, ok := strings.CutPrefix(opt, "seccomp="); ok && profile != "unconfined" && profile != "builtin" && !strings.HasPrefix(strings.TrimSpace(profile), "{") {
			return errors.New("decoding seccomp profile failed: it is to be the profile itself, as JSON")
		}
	}
	o.NamespaceOptions = forge.NamespaceOptions{
		IPC: h.IpcMode, PID: h.PidMode, UTS: h.UTSMode, Cgroupns: h.CgroupnsMode, Userns: h.UsernsMode, Sysctls: assignments(h.Sysctls),
		GroupAdd: h.GroupAdd, Init: h.Init != nil && *h.Init,
	}
	if o.Devices, o.DeviceRequests, err = devices(&h.Resources); err != nil {
		return err
	}
	o.LimitOptions, o.BlockOptions = limits(&h.Resources), blockLimits(&h.Resources)
	o.OOMScoreAdj = h.OomScoreAdj
	if h.ShmSize > 0 {
		o.ShmSize = strconv.FormatInt(h.ShmSize, 10)
	}
	return nil
}

// filled leaves out what is empty, as some clients send it.
func filled(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

// mountTargets are the places that binds and mounts have in the container.
func mountTargets(h *inspect.HostConfig) map[string]bool {
	targets := map[string]bool{}
	for _, b := range h.Binds {
		if parts := strings.Split(b, ":"); len(parts) > 1 {
			targets[parts[1]] = true
		}
	}
	for i := range h.Mounts {
		targets[h.Mounts[i].Target] = true
	}
	return targets
}

// mountFlag is a mount as the command line's --mount has it.
func mountFlag(m *inspect.MountPoint) (string, error) {
	fields := []string{"type=" + m.Type, "target=" + m.Target}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, name+"="+value)
		}
	}
	add("source", m.Source)
	if m.ReadOnly {
		add("readonly", "true")
	}
	if b := m.BindOptions; b != nil && m.Type == "bind" {
		add("bind-propagation", b.Propagation)
		if b.CreateMountpoint {
			add("bind-create-src", "true")
		}
		if b.NonRecursive || b.ReadOnlyForceRecursive {
			return "", fmt.Errorf("mount at %s: NonRecursive and ReadOnlyForceRecursive are not there: what is mounted below a directory comes with it", m.Target)
		}
	}
	if v := m.VolumeOptions; v != nil && m.Type == "volume" {
		add("volume-subpath", v.Subpath)
		if v.NoCopy {
			add("volume-nocopy", "true")
		}
		for _, l := range assignments(v.Labels) {
			add("volume-label", l)
		}
		if d := v.DriverConfig; d != nil {
			add("volume-driver", d.Name)
			for _, o := range assignments(d.Options) {
				add("volume-opt", o)
			}
		}
	}
	if t := m.TmpfsOptions; t != nil && m.Type == "tmpfs" {
		if t.SizeBytes > 0 {
			add("tmpfs-size", strconv.FormatInt(t.SizeBytes, 10))
		}
		if t.Mode != 0 {
			add("tmpfs-mode", strconv.FormatUint(uint64(t.Mode), 8))
		}
		if len(t.Options) > 0 {
			return "", fmt.Errorf("mount at %s: other options of a tmpfs than its size and mode are those of HostConfig.Tmpfs", m.Target)
		}
	}
	return words.JoinFields(fields), nil
}

// devices are those that are asked for, by path or by the names of the Container Device Interface, and requests those by what they can do.
func devices(r *inspect.Resources) (list []string, requests []inspect.DeviceRequest, err error) {
	for _, d := range r.Devices {
		text := d.PathOnHost
		if d.PathInContainer != "" {
			text += ":" + d.PathInContainer
		}
		if d.CgroupPermissions != "" {
			text += ":" + d.CgroupPermissions
		}
		list = append(list, text)
	}
	for _, q := range r.DeviceRequests {
		switch {
		case q.Driver != "cdi":
			requests = append(requests, q)
		case len(q.DeviceIDs) == 0:
			return nil, nil, fmt.Errorf("could not select device driver %q with capabilities: %v: DeviceIDs are to be names of CDI", q.Driver, q.Capabilities)
		default:
			list = append(list, q.DeviceIDs...)
		}
	}
	return list, requests, nil
}

// limits are the limits of a request as command lines have them.
func limits(r *inspect.Resources) (o forge.LimitOptions) {
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	o = forge.LimitOptions{
		CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CPUShares: r.CPUShares, CpusetCPUs: r.CpusetCpus, CpusetMems: r.CpusetMems,
	}
	if r.NanoCPUs != 0 {
		o.CPUs = strconv.FormatFloat(float64(r.NanoCPUs)/1e9, 'f', -1, 64)
	}
	o.Memory, o.MemorySwap, o.MemoryReservation = number(r.Memory), number(r.MemorySwap), number(r.MemoryReservation)
	if r.PidsLimit != nil {
		o.Pids = *r.PidsLimit
	}
	o.OOMKillDisable = r.OomKillDisable != nil && *r.OomKillDisable
	for _, u := range r.Ulimits {
		o.Ulimits = append(o.Ulimits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return o
}

// blockLimits are the limits of block devices in a request as command lines have them.
func blockLimits(r *inspect.Resources) forge.BlockOptions {
	rates := func(list []inspect.Throttle) (values []string) {
		for _, t := range list {
			values = append(values, fmt.Sprintf("%s:%d", t.Path, t.Rate))
		}
		return values
	}
	o := forge.BlockOptions{
		BlkioWeight: r.BlkioWeight, DeviceReadBps: rates(r.BlkioDeviceReadBps), DeviceWriteBps: rates(r.BlkioDeviceWriteBps),
		DeviceReadIOps: rates(r.BlkioDeviceReadIOps), DeviceWriteIOps: rates(r.BlkioDeviceWriteIOps),
	}
	for _, t := range r.BlkioWeightDevice {
		o.BlkioWeightDevice = append(o.BlkioWeightDevice, fmt.Sprintf("%s:%d", t.Path, t.Weight))
	}
	return o
}

// unsupported refuses what is asked for and not there, by name: who asks for it would not get it.
func unsupported(h *inspect.HostConfig) error {
	r := &h.Resources
	for _, f := range []struct {
		name  string
		asked bool
	}{
		{"StorageOpt", len(h.StorageOpt) > 0},
		{"Isolation", h.Isolation != "" && h.Isolation != "default"},
		{"VolumeDriver", h.VolumeDriver != "" && h.VolumeDriver != "local"},
		{"CgroupParent", r.CgroupParent != ""},
		{"CpuRealtimePeriod", r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0},
		{"DeviceCgroupRules", len(r.DeviceCgroupRules) > 0},
		{"MemorySwappiness", r.MemorySwappiness != nil && *r.MemorySwappiness >= 0},
		{"MaskedPaths, ReadonlyPaths", !h.Privileged && (h.MaskedPaths != nil && len(h.MaskedPaths) == 0 || h.ReadonlyPaths != nil && len(h.ReadonlyPaths) == 0)},
	} {
		if f.asked {
			return fmt.Errorf("HostConfig.%s is not there in forge, and the container would not have it: leave it out", f.name)
		}
	}
	if h.Runtime != "" && h.Runtime != "forge" {
		return fmt.Errorf("unknown or invalid runtime name: %s: forge runs containers itself", h.Runtime)
	}
	return nil
}

// updateContainer changes limits and the restart policy.
func updateContainer(c *call) error {
	var b struct {
		inspect.Resources
		RestartPolicy inspect.Policy
	}
	if err := c.read(&b, bodyOptional); err != nil {
		return err
	}
	if err := unsupported(&inspect.HostConfig{Resources: b.Resources}); err != nil {
		return invalid(err)
	}
	if len(b.BlkioWeightDevice)+len(b.BlkioDeviceReadBps)+len(b.BlkioDeviceWriteBps)+len(b.BlkioDeviceReadIOps)+len(b.BlkioDeviceWriteIOps) > 0 {
		return invalid(errors.New("limits of single block devices cannot be changed by an update: make the container anew"))
	}
	o := forge.UpdateOptions{LimitOptions: limits(&b.Resources), BlkioWeight: b.BlkioWeight, Restart: restartOf(b.RestartPolicy)}
	if err := c.home.UpdateContainer(c.ctx(), c.name, o); err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"Warnings": nil})
}
