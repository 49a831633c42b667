package inspect

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// StateOf is what a container does, by how its last run went.
func StateOf(run *state.Run, status state.Status) State {
	s := State{
		Status: string(status), Running: status.Alive() || status == state.Restarting, Paused: status == state.Paused,
		Restarting: status == state.Restarting, OOMKilled: run.OOM, Dead: status == state.Dead, Pid: run.Ref.Pid,
		ExitCode: run.ExitCode, Error: run.Error, StartedAt: Timestamp{Time: run.Started}, FinishedAt: Timestamp{Time: run.Finished},
	}
	if run.Health != nil {
		health := *run.Health
		health.Log = append([]state.HealthResult{}, health.Log...) // docker has an empty list and not null
		s.Health = &health
	}
	return s
}

// Capabilities are names as docker writes them down: "net_admin" is "CAP_NET_ADMIN".
func Capabilities(names []string) (full []string) {
	for _, name := range names {
		if name = strings.ToUpper(name); name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		full = append(full, name)
	}
	slices.Sort(full)
	return full
}

// PolicyOf reads --restart, which was checked when it was given.
func PolicyOf(restart string) Policy {
	name, count, _ := strings.Cut(restart, ":")
	p := Policy{Name: cmp.Or(name, "no")}
	p.MaximumRetryCount, _ = strconv.Atoi(count)
	return p
}

// ResourcesOf are limits, and the devices of --device.
func ResourcesOf(limits runtime.Limits, devices []string) Resources {
	i := Resources{
		CPUShares: limits.CPUShares, Memory: limits.Memory, MemorySwap: limits.MemorySwap, MemoryReservation: limits.MemoryReservation,
		NanoCPUs: limits.NanoCPUs, CpusetCpus: limits.CPUs, CpusetMems: limits.Mems, CPUPeriod: limits.CPUPeriod, CPUQuota: limits.CPUQuota,
		OomKillDisable: &limits.OOMKillDisable, Devices: []Device{}, Ulimits: []Ulimit{},
	}
	if i.MemorySwap == 0 { // what the kernel is told then
		i.MemorySwap = 2 * i.Memory
	}
	i.block(&limits.BlockIO)
	if limits.Pids != 0 {
		i.PidsLimit = &limits.Pids
	}
	for _, u := range limits.Ulimits {
		i.Ulimits = append(i.Ulimits, Ulimit{Name: u.Name, Hard: int64(u.Hard), Soft: int64(u.Soft)}) // no limit is -1, as docker has it
	}
	for _, d := range devices {
		if !strings.HasPrefix(d, "/") {
			i.DeviceRequests = append(i.DeviceRequests, DeviceRequest{Driver: "cdi", DeviceIDs: []string{d}})
			continue
		}
		parts := strings.Split(d, ":")
		device := Device{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		if len(parts) > 1 && strings.HasPrefix(parts[1], "/") {
			device.PathInContainer = parts[1]
		}
		i.Devices = append(i.Devices, device)
	}
	return i
}

// block adds the limits of block devices, in lists that are never null, as docker has them.
func (i *Resources) block(b *runtime.BlockIO) {
	i.BlkioWeight = uint16(b.Weight)
	for use, list := range map[runtime.BlockUse]*[]Throttle{
		runtime.BlockWeight: &i.BlkioWeightDevice, runtime.BlockReadBps: &i.BlkioDeviceReadBps, runtime.BlockWriteBps: &i.BlkioDeviceWriteBps,
		runtime.BlockReadIOps: &i.BlkioDeviceReadIOps, runtime.BlockWriteIOps: &i.BlkioDeviceWriteIOps,
	} {
		*list = []Throttle{}
		for _, d := range b.Devices {
			switch {
			case d.Use != use:
			case use == runtime.BlockWeight:
				*list = append(*list, Throttle{Path: d.Path, Weight: uint16(d.Value)})
			default:
				*list = append(*list, Throttle{Path: d.Path, Rate: d.Value})
			}
		}
	}
}

// MountPoints are the values of --mount.
func MountPoints(flags []string) (list []MountPoint, err error) {
	points, err := container.ParseMounts(nil, flags, nil)
	for _, p := range points {
		m := MountPoint{Type: p.Type, Source: cmp.Or(p.Source, p.Name), Target: p.Target, ReadOnly: p.ReadOnly}
		switch {
		case p.Type == "bind" && (p.Propagation != "" || p.Create):
			m.BindOptions = &BindOptions{Propagation: p.Propagation, CreateMountpoint: p.Create}
		case p.Type == "volume" && (p.NoCopy || p.Subpath != "" || p.Labels != nil):
			m.VolumeOptions = &VolumeOptions{NoCopy: p.NoCopy, Subpath: p.Subpath, Labels: p.Labels}
		case p.Type == "tmpfs" && p.Memory != "":
			m.TmpfsOptions = &TmpfsOptions{}
			m.TmpfsOptions.SizeBytes, m.TmpfsOptions.Mode = p.TmpfsSize()
		}
		list = append(list, m)
	}
	return list, err
}

// Bindings are the ports that are to be published, by the container's.
func Bindings(publish []string) (map[string][]Binding, error) {
	all := map[string][]Binding{}
	for _, text := range publish {
		ports, err := network.ParsePorts(text)
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			key := fmt.Sprintf("%d/%s", p.Container, p.Protocol)
			b := Binding{}
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
