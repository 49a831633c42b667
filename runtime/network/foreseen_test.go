package network

import (
	"net/netip"
	"testing"
)

// TestForeseen: who asks for the default network before its first container learns the addresses that it will have, and no other network
// changes.
func TestForeseen(t *testing.T) {
	t.Parallel()
	n := predefined(DefaultName)
	will := n.Foreseen()
	if n.Subnet.IsValid() || !netip.MustParsePrefix("10.209.0.0/16").Overlaps(will.Subnet) || will.Gateway != will.Subnet.Addr().Next() {
		t.Errorf("%+v is foreseen as %+v", n, will)
	}
	there := &Network{Name: DefaultName, Subnet: netip.MustParsePrefix("10.209.7.0/24")}
	for _, n := range []*Network{there, predefined("none"), {Name: "other"}} {
		if n.Foreseen() != n {
			t.Errorf("%s is foreseen to be another: %+v", n.Name, n.Foreseen())
		}
	}
}
