package forge

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/runtime"
)

// DockerInfo is what docker's info says, under its names, as far as forge has the like.
func (h *Home) DockerInfo(ctx context.Context) (map[string]any, error) {
	list, err := h.Containers(ctx, ListOptions{All: true, Last: -1})
	if err != nil {
		return nil, err
	}
	count := map[state.Status]int{}
	for _, c := range list {
		count[c.Status]++
	}
	images, err := h.ImageTree(ctx, ImagesOptions{})
	if err != nil && images == nil {
		return nil, err
	}
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	known, err := registry.Describe()
	if err != nil {
		return nil, err
	}
	driver, why := store.Kind()
	security := []string{"name=seccomp,profile=builtin"}
	rootless, _ := runtime.Privileges()
	if rootless {
		security = append(security, "name=rootless")
	}
	host, _ := os.Hostname()
	system, version := operatingSystem()
	fields := map[string]any{
		"Containers": len(list), "ContainersRunning": count[state.Running], "ContainersPaused": count[state.Paused],
		"ContainersStopped": len(list) - count[state.Running] - count[state.Paused], "Images": len(images),
		"Driver": string(driver), "DriverStatus": [][2]string{{"Reason", why}}, "DockerRootDir": h.Dir,
		"LoggingDriver": "json-file", "CgroupDriver": "cgroupfs", "CgroupVersion": runtime.CgroupVersion(),
		"Plugins":       map[string][]string{"Volume": {"local"}, "Network": {"bridge", "host", "null"}, "Log": {"json-file", "local", "none"}, "Authorization": nil},
		"KernelVersion": kernelRelease(), "OperatingSystem": system, "OSVersion": version, "OSType": "linux",
		"Architecture": machine(), "NCPU": goruntime.NumCPU(), "MemTotal": runtime.MemoryTotal(), "Name": host, "ID": h.engineID(),
		"SystemTime": time.Now().Format(time.RFC3339Nano), "SecurityOptions": security, "DefaultRuntime": "forge",
		"Runtimes": map[string]any{"forge": map[string]string{"path": "forge"}}, "Labels": []string{}, "Warnings": []string{},
		"HttpProxy": web.Redact(os.Getenv("HTTP_PROXY")), "HttpsProxy": web.Redact(os.Getenv("HTTPS_PROXY")), "NoProxy": os.Getenv("NO_PROXY"),
		"IndexServerAddress": "https://index.docker.io/v1/", "ExperimentalBuild": false, "LiveRestoreEnabled": true,
		"RegistryConfig": map[string]any{
			"Mirrors": known.Mirrors, "InsecureRegistryCIDRs": []string{},
			"IndexConfigs": map[string]any{"docker.io": map[string]any{"Name": "docker.io", "Mirrors": known.Mirrors, "Secure": true, "Official": true}},
		},
		"Swarm": map[string]any{
			"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": nil,
		},
	}
	maps.Copy(fields, dockerAbilities())
	return fields, nil
}

// dockerAbilities is what docker says of a kernel and of its own parts. Clients warn of limits that the first say are not there.
func dockerAbilities() map[string]any {
	forwarding, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	fields := map[string]any{
		"OomKillDisable": runtime.CgroupVersion() == "1", "KernelMemoryTCP": false, "IPv4Forwarding": strings.TrimSpace(string(forwarding)) == "1",
		"Debug": false, "NFd": 0, "NGoroutines": goruntime.NumGoroutine(), "NEventsListener": 0, "GenericResources": nil, "Isolation": "",
		"InitBinary": "forge-init", "CDISpecDirs": container.CDIDirs(), "FirewallBackend": map[string]string{"Driver": "nftables"},
	}
	for _, limit := range []string{"MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"} {
		fields[limit] = true
	}
	for _, part := range []string{"ContainerdCommit", "RuncCommit", "InitCommit"} {
		fields[part] = map[string]string{"ID": ""} // it is all one program
	}
	return fields
}

// engineID tells this store on this machine from others, always in the same way.
func (h *Home) engineID() string {
	machine, _ := os.ReadFile("/etc/machine-id")
	sum := sha256.Sum256(append(append(machine, 0), h.Dir...))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// machine is this architecture as uname -m has it, and docker with it.
func machine() string {
	if name, ok := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "riscv64": "riscv64"}[goruntime.GOARCH]; ok {
		return name
	}
	return goruntime.GOARCH
}

// operatingSystem is the name and the version of the distribution, as os-release(5) has them.
func operatingSystem() (name, version string) {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "linux", ""
	}
	defer f.Close()
	name = "linux"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if text, err := strconv.Unquote(value); err == nil {
			value = text
		}
		switch key {
		case "PRETTY_NAME":
			name = value
		case "VERSION_ID":
			version = value
		}
	}
	return name, version
}
