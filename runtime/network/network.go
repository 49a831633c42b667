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

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// Describe says in words what the default network is here, and why if it is nothing.
func Describe() string {
	if rootless, _ := runtime.Rootless(); rootless {
		path, err := findPasta()
		if err != nil {
			return "loopback only: " + err.Error()
		}
		return "user mode: " + path
	}
	said := "bridge " + bridgeName + " with address translation"
	if dropsForwarded() {
		said += "; this machine's firewall drops what is forwarded unless a rule of its own accepts it: where containers do not get " +
			"out, iptables -I FORWARD -i " + bridgeName + " -j ACCEPT and -o " + bridgeName + ", or the same in DOCKER-USER if there is one"
	}
	return said
}

// dropsForwarded reports whether the chain FORWARD of iptables drops what none of its rules accepts, as docker and ufw have it.
// Our rules cannot accept for others: all chains have to.
func dropsForwarded() (drops bool) {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return false
	}
	defer c.close()
	r := newRequest("nftables chain FORWARD", unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, ack, nfProtoIPv4, 0, 0, 0)
	err = c.dump(r.str(unix.NFTA_CHAIN_TABLE, "filter").str(unix.NFTA_CHAIN_NAME, "FORWARD"), func(message []byte) {
		if len(message) > nfHeader {
			policy := attributes(message[nfHeader:])[unix.NFTA_CHAIN_POLICY]
			drops = len(policy) == 4 && binary.BigEndian.Uint32(policy) == verdictDrop
		}
	})
	return drops && err == nil
}
