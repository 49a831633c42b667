package forge

import (
	"context"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/runtime"
)

// network is the network that a mode asks for: "none", "host", or the default of this machine.
func (h *Home) network(_ context.Context, mode string, dns []string) (executor.StepNetwork, error) {
	switch mode {
	case "none", "host":
		return executor.StepNetwork{Network: runtime.Network{Mode: mode}, DNS: dns}, nil
	}
	return executor.StepNetwork{Network: runtime.Network{Mode: "default"}, DNS: dns}, nil
}
