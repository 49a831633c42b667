package container

import (
	"net/netip"

	"github.com/forge-build/forge/runtime"
)

// A Network is what one container is connected to.
type Network struct {
	runtime.Network
	Addresses []netip.Addr // of the container; none if it has none of its own
	Gateway   netip.Addr   // where the container reaches this machine; not valid if it cannot
	DNS       []string     // name servers; none are the machine's, as far as they can be reached
	Search    []string     // domains to search, instead of the machine's; "." is none
	Options   []string     // of resolv.conf(5), instead of the machine's
	Missing   error        // why a network that was asked for is a loopback interface only; nil if it is not
	Close     func() error // gives it back after the container has ended; may be nil
}
