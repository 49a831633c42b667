// Package network prepares the network of a container: a namespace of its own with a way out.
//
// For root it is a bridge with address translation, for others a user-mode network (pasta). Where neither can be had,
// the error says why, and the caller goes on with a loopback interface only. A container's interface goes with its
// namespace, its address with its process; the bridge and the rule stay for the next one until Sweep.
package network

import (
	"context"
	"fmt"
	"os"

	"github.com/forge-build/forge/runtime"
)

// Prepare makes a network for a container. Processes that use the same dir share a bridge, so that root's is one for the
// machine, such as /run/forge/network; it is made. The caller closes the Sandbox after the container has ended. The error says why
// containers have none but a loopback interface here.
func Prepare(ctx context.Context, dir string) (*Sandbox, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	prepare := bridged
	if rootless, _ := runtime.Rootless(); rootless {
		prepare = userMode
	}
	n, err := prepare(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return n, nil
}

// Describe says in words what [Prepare] makes here, and why if it is nothing.
func Describe() string {
	if rootless, _ := runtime.Rootless(); rootless {
		path, err := findPasta()
		if err != nil {
			return "loopback only: " + err.Error()
		}
		return "user mode: " + path
	}
	return "bridge " + bridgeName + " with address translation"
}
