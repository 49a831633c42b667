package network

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestPool: containers are given addresses of the range alone, none that is somebody else's, and may have any other of the subnet that they
// ask for.
func TestPool(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	n := create(t, s, Config{
		Name: "n", Subnet: netip.MustParsePrefix("10.1.0.0/16"), Pool: Pool{
			Range: netip.MustParsePrefix("10.1.5.8/30"), Aux: map[string]netip.Addr{"router": mustAddr("10.1.5.9"), "printer": mustAddr("10.1.9.9")},
		},
		Range6: Range6{Subnet6: netip.MustParsePrefix("fd00:5::/64"), Pool6: Pool{
			Range: netip.MustParsePrefix("fd00:5::f0:20/126"), Aux: map[string]netip.Addr{"router": mustAddr("fd00:5::f0:21")},
		}},
	})
	if again, err := s.Find("n"); err != nil || fmt.Sprint(again.Pool, again.Range6) != fmt.Sprint(n.Pool, n.Range6) {
		t.Errorf("the record says %+v, %v", again, err)
	}
	start := func(a Attachment) (string, error) {
		a.Network = "n"
		b, err := s.Prepare(t.Context(), Options{Networks: []Attachment{a}})
		if err != nil {
			return "", err
		}
		t.Cleanup(func() { b.Close() })
		e := b.Endpoints()[0]
		return fmt.Sprint(e.Address, " ", e.Address6), nil
	}
	none, none6 := "no available IPv4 addresses on this network's address pools: n ("+n.ID+")", "no available IPv6 addresses on this network's address pools: n ("+n.ID+")"
	for _, test := range []struct {
		a    Attachment
		want string
	}{
		{Attachment{Address: mustAddr("10.1.5.9")}, "Address already in use: 10.1.5.9"},
		{Attachment{Address: mustAddr("10.1.9.9")}, "Address already in use: 10.1.9.9"},
		{Attachment{IPv6: mustAddr("fd00:5::f0:21")}, "Address already in use: fd00:5::f0:21"},
		{Attachment{}, "10.1.5.8/16 fd00:5::f0:20/64"},
		{Attachment{Address: mustAddr("10.1.77.7"), IPv6: mustAddr("fd00:5::77")}, "10.1.77.7/16 fd00:5::77/64"},
		{Attachment{}, "10.1.5.10/16 fd00:5::f0:22/64"},
		{Attachment{}, "10.1.5.11/16 fd00:5::f0:23/64"},
		{Attachment{}, none},
		{Attachment{Address: mustAddr("10.1.77.8")}, none6},
		{Attachment{Address: mustAddr("10.2.0.1")}, "no configured subnet or ip-range contain the IP address 10.2.0.1"},
	} {
		got, err := start(test.a)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+v: %s, want %s", test.a, got, test.want)
		}
	}
}

// TestPoolCheck: what is no part of the subnet is refused, in docker's words.
func TestPoolCheck(t *testing.T) {
	if !inside(t) { // where no other network has these addresses
		return
	}
	prefix := netip.MustParsePrefix
	four, six := prefix("10.1.0.0/16"), prefix("fd00:5::/64")
	aux := func(pairs ...string) map[string]netip.Addr {
		m := map[string]netip.Addr{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = mustAddr(pairs[i+1])
		}
		return m
	}
	for _, test := range []struct {
		c    Config
		want string
	}{
		{Config{Subnet: four, Pool: Pool{Range: prefix("10.1.5.0/24"), Aux: aux("a", "10.1.0.9")}}, "<nil>"},
		{Config{Subnet: four, Pool: Pool{Range: four}}, "<nil>"},
		{Config{Subnet: four, Pool: Pool{Range: prefix("10.2.5.0/24")}}, "invalid ip-range 10.2.5.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range"},
		{Config{Subnet: four, Pool: Pool{Range: prefix("10.0.0.0/8")}}, "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16"},
		{Config{Subnet: four, Pool: Pool{Range: prefix("10.1.5.1/24")}}, "invalid ip-range 10.1.5.1/24: it should be 10.1.5.0/24"},
		{Config{Subnet: four, Pool: Pool{Aux: aux("a", "10.2.0.1")}}, "invalid auxiliary address a: parent subnet 10.1.0.0/16 doesn't contain this address"},
		{Config{Subnet: four, Pool: Pool{Aux: aux("a", "10.1.0.1")}}, "failed to allocate secondary ip address (a:10.1.0.1): Address already in use"},
		{Config{Subnet: four, Pool: Pool{Aux: aux("a", "10.1.0.9", "b", "10.1.0.9")}}, "failed to allocate secondary ip address (b:10.1.0.9): Address already in use"},
		{Config{Subnet: four, Pool: Pool{Aux: aux("DefaultGatewayIPv4", "10.1.0.9")}}, "invalid auxiliary address DefaultGatewayIPv4: containers reach others by the gateway of their network: give another name, or --gateway"},
		{Config{Pool: Pool{Range: prefix("10.1.5.0/24")}}, "every ip-range or gateway must have a corresponding subnet"},
		{Config{Pool: Pool{Aux: aux("a", "10.1.0.9")}}, "no matching subnet for aux-address 10.1.0.9"},
		{Config{Range6: Range6{Subnet6: six, Pool6: Pool{Range: prefix("fd00:5::/112"), Aux: aux("a", "fd00:5::9")}}}, "<nil>"},
		{Config{Range6: Range6{Subnet6: six, Pool6: Pool{Range: prefix("fd00:6::/112")}}}, "invalid ip-range fd00:6::/112: parent subnet fd00:5::/64 doesn't contain ip-range"},
		{Config{IPv6: true, Range6: Range6{Pool6: Pool{Range: prefix("fd00:6::/112")}}}, "every ip-range or gateway must have a corresponding subnet"},
		{Config{Range6: Range6{Pool6: Pool{Aux: aux("a", "fd00:6::1")}}}, "no matching subnet for aux-address fd00:6::1"},
	} {
		_, _, err := test.c.addresses(nil)
		_, err6 := test.c.addresses6("id", nil)
		if err == nil {
			err = err6
		}
		if got := fmt.Sprint(err); got != test.want {
			t.Errorf("%+v: %s, want %s", test.c, got, test.want)
		}
	}
}
