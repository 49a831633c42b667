package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/forge-build/forge/runtime"
)

// defaultBridge is the default network as it is now: with a subnet if the bridge is there.
func defaultBridge() (*Network, error) {
	n := predefined(DefaultName)
	a, ok := interfaceAddress(bridgeName)
	if !ok {
		return n, nil
	}
	n.Gateway, n.Subnet = a, netip.PrefixFrom(a, 24).Masked()
	if b := a.As4(); b[0] != 10 || b[1] != defaultSecond {
		return nil, fmt.Errorf("interface %s is somebody else's: it has the address %s", bridgeName, a)
	}
	if r := default6(); hasAddress6(bridgeName, r.Gateway6) {
		n.Range6 = r
	}
	return n, nil
}

// EnsureDefault makes the bridge of the default network, unless it is there: without it the network has no addresses. The firewall is left
// to the first container. An ordinary user's containers have no bridge, and it does nothing.
func (s *Store) EnsureDefault(ctx context.Context) error {
	if rootless, _ := runtime.Rootless(); rootless {
		return nil
	}
	if n, err := defaultBridge(); err != nil || n.Subnet.IsValid() {
		return err
	}
	lock, err := s.account.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := defaultBridge()
	if err != nil || n.Subnet.IsValid() { // another process was faster
		return err
	}
	_, err = ensureBridge(n)
	return err
}
