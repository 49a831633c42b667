package forge

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

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
	rootless, rootlessWhy := runtime.Rootless()
	if !rootless {
		rootlessWhy = "root of this machine"
	}
	named, err := h.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	return []InfoRow{
		{"store", h.Dir, strings.TrimSpace(storeVersion)},
		{"images", strconv.Itoa(len(named)), "names"},
		{"snapshotter", string(kind), why},
		{"rootless", strconv.FormatBool(rootless), rootlessWhy},
		{"cgroups", "", runtime.Cgroups()},
		{"network", "", network.Describe()},
		{"kernel", kernelRelease(), ""},
		{"platform", platforms.Format(thisPlatform()), ""},
	}, nil
}

func kernelRelease() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown: " + err.Error()
	}
	return strings.TrimSpace(string(release))
}
