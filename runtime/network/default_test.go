package network

import (
	"slices"
	"testing"
)

// TestEnsureDefault: who asks for it gets a default network with addresses before its first container, and an interface has the gateway; the
// first container takes that bridge, and has its place in the firewall.
func TestEnsureDefault(t *testing.T) {
	if !inside(t) {
		return
	}
	s := Open(t.TempDir(), t.TempDir())
	if n, err := s.Find(DefaultName); err != nil || n.Subnet.IsValid() {
		t.Fatalf("before: %+v, %v", n, err)
	}
	for range 2 {
		if err := s.EnsureDefault(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	n, err := s.Find(DefaultName)
	if err != nil || !n.Subnet.Contains(n.Gateway) {
		t.Fatalf("after: %+v, %v", n, err)
	}
	if a, ok := interfaceAddress(bridgeName); !ok || a != n.Gateway {
		t.Errorf("the bridge has the address %s, want %s", a, n.Gateway)
	}
	b, err := s.Prepare(t.Context(), byDefault)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	u, err := s.account.usage()
	if err != nil || len(u.of(n)) != 1 || u.of(n)[0].Gateway != n.Gateway {
		t.Errorf("the container has %+v, %v; want the gateway %s", u.of(n), err, n.Gateway)
	}
	if !slices.ContainsFunc(u.networks, func(o *Network) bool { return o.ID == n.ID && o.Subnet == n.Subnet }) {
		t.Error("the network is not in the firewall")
	}
	if i := slices.IndexFunc(u.networks, func(o *Network) bool { return o.ID == n.ID }); i >= 0 && (!u.networks[i].Rules6 || !tableThere(nfProtoIPv6)) {
		t.Errorf("the firewall does not keep IPv6 out of %+v", u.networks[i])
	}
}
