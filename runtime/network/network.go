// Package network prepares the networks of containers: a namespace for each with a way out, networks that containers share,
// ports of this machine that lead to them, and names.
//
// For root a network is a bridge with address translation; for others there is one user-mode network (pasta). Where neither
// can be had, the error says why, and the caller goes on with a loopback interface only.
//
// Nobody keeps watch: who makes a Sandbox holds it. What is in use stands in files, each locked by its owner, and the
// firewall's rules are made of those files. So what a dead process left is known by its lock and goes with the next start. A
// container's interfaces go with its namespace; bridges and rules stay for the next one until Sweep.
package network

import "github.com/forge-build/forge/runtime"

// Describe says in words what the default network is here, and why if it is nothing.
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
