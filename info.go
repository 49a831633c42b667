package forge

import (
	"context"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"

	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// An InfoRow is a fact about how forge works here.
type InfoRow struct{ Name, Value, Why string }

// Info tells how forge works on this machine, and why so.
func (h *Home) Info(ctx context.Context) ([]InfoRow, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	kind, why := store.Kind()
	rootless, rootlessWhy := runtime.Privileges()
	isolated, isolatedWhy, err := runtime.FindIsolation(isolation(os.Getenv("FORGE_ISOLATION")))
	if err != nil {
		isolated, isolatedWhy = "none", err.Error()
	}
	named, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	known, err := registry.Describe()
	if err != nil {
		return nil, err
	}
	memory := runtime.MemoryTotal()
	return []InfoRow{
		{"store", h.Dir, strings.TrimSpace(storeVersion)},
		{"images", strconv.Itoa(len(named)), "names"},
		{"snapshotter", string(kind), why},
		{"isolation", string(isolated), isolatedWhy},
		{"rootless", strconv.FormatBool(rootless), rootlessWhy},
		{"cgroups", "", runtime.Cgroups()},
		{"network", "", network.Describe()},
		{"kernel", kernelRelease(), ""},
		{"platform", platforms.Format(thisPlatform()), ""},
		{"processors", strconv.Itoa(goruntime.NumCPU()), "that this process may use"},
		{"memory", units.BytesSize(float64(memory)), ""},
		{"configuration", strings.Join(known.Files, ", "), unlessNone(known.Files, "read for registries, logins and proxies")},
		{"mirrors", strings.Join(known.Mirrors, ", "), unlessNone(known.Mirrors, "of registries.conf")},
	}, nil
}

// unlessNone is what is said of a list that is not empty.
func unlessNone(list []string, why string) string {
	if len(list) == 0 {
		return "none"
	}
	return why
}

// kernelRelease is the version of the running kernel, as uname -r has it.
func kernelRelease() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown: " + err.Error()
	}
	return strings.TrimSpace(string(release))
}
