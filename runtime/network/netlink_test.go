package network

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAllPorts: the firewall takes as many ports as there are in one transaction, and says what it does not take.
func TestAllPorts(t *testing.T) {
	if !inside(t) {
		return
	}
	var crowd []Endpoint
	for i := range byte(64) {
		e := Endpoint{Container: "0123456789abcdef", Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 210, 0, i}), 24)}
		for p := range uint16(1023) {
			e.Bindings = append(e.Bindings, Binding{netip.IPv4Unspecified(), uint16(i)*1023 + p, p, "tcp"}, Binding{mustAddr("127.0.0.1"), uint16(i)*1023 + p, p, "udp"})
		}
		crowd = append(crowd, e)
	}
	if err := rebuild(&usage{}); err != nil {
		t.Fatal(err)
	}
	empty := countElements(t)
	if err := rebuild(&usage{endpoints: crowd}); err != nil {
		t.Fatal(err)
	}
	full := countElements(t)
	var change []*request
	for _, e := range crowd {
		change = append(change, bindingElements(deleteElements, e)...)
	}
	if err := transact(change...); err != nil {
		t.Fatal(err)
	}
	if left := countElements(t); left != empty || full < empty+1<<20 {
		t.Errorf("elements of %d bytes, after they were removed %d, want %d", full, left, empty)
	}
	if err := transact(bindingElements(deleteElements, crowd[0])...); !errors.Is(err, unix.ENOENT) {
		t.Errorf("ports that are not there: %v", err)
	}
}
