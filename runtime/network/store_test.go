package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func create(t *testing.T, s *Store, c Config) *Network {
	t.Helper()
	n, err := s.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// names are the names of networks.
func names(list []*Network) string {
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestStore(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	list, err := s.List()
	if got := names(list); err != nil || got != "bridge host none" {
		t.Errorf("at first: %s, %v", got, err)
	}
	a := create(t, s, Config{Name: "a", Labels: map[string]string{"k": "v"}})
	b := create(t, s, Config{Name: "b"})
	c := create(t, s, Config{Name: "c", Subnet: netip.MustParsePrefix("192.168.50.0/28"), Gateway: mustAddr("192.168.50.14"), Internal: true})
	if a.Subnet.String() != "10.210.0.0/24" || a.Gateway.String() != "10.210.0.1" || b.Subnet.String() != "10.210.1.0/24" {
		t.Errorf("subnets %v, %v and %v", a.Subnet, a.Gateway, b.Subnet)
	}
	list, err = Open(s.records, s.account.root).List()
	if got := names(list); err != nil || got != "a b bridge c host none" {
		t.Errorf("of another process: %s, %v", got, err)
	}
	for _, id := range []string{"c", c.ID, c.ID[:12]} {
		got, err := s.Find(id)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c) {
			t.Errorf("Find(%s) = %v, %v, want %v", id, got, err, c)
		}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{second(s.Find("zz")), "network zz not found"},
		{second(s.Find("")), "network  not found"},
		{second(s.Remove(t.Context(), "zz")), "network zz not found"},
		{second(s.Remove(t.Context(), "bridge")), "bridge is a pre-defined network and cannot be removed"},
		{second(s.Create(t.Context(), Config{Name: "a"})), "network with name a already exists"},
		{second(s.Create(t.Context(), Config{Name: "host"})), "operation is not permitted on predefined host network"},
		{second(s.Create(t.Context(), Config{Name: "../a"})), `invalid network name "../a": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, and 128 of them at most`},
		{second(s.Create(t.Context(), Config{Name: "d", Subnet: netip.MustParsePrefix("10.210.0.0/16")})), "invalid pool request: Pool overlaps with other one on this address space: 10.210.0.0/16 with 10.210.0.0/24"},
		{second(s.Create(t.Context(), Config{Name: "d", Subnet: netip.MustParsePrefix("10.1.1.5/24")})), "invalid subnet 10.1.1.5/24: it should be 10.1.1.0/24"},
		{second(s.Create(t.Context(), Config{Name: "d", Subnet: netip.MustParsePrefix("fd00::/64")})), "invalid subnet fd00::/64: networks here have IPv4 subnets only"},
		{second(s.Create(t.Context(), Config{Name: "d", Subnet: netip.MustParsePrefix("127.0.0.0/24")})), "invalid subnet 127.0.0.0/24: it must be of /8 to /30 addresses that machines may have"},
		{second(s.Create(t.Context(), Config{Name: "d", Gateway: mustAddr("10.0.0.1")})), "every ip-range or gateway must have a corresponding subnet"},
		{second(s.Create(t.Context(), Config{Name: "d", Subnet: netip.MustParsePrefix("10.1.1.0/24"), Gateway: mustAddr("10.1.1.255")})), "invalid gateway 10.1.1.255: it is no address of a machine in 10.1.1.0/24"},
	} {
		if got := fmt.Sprint(test.err); got != test.want {
			t.Errorf("error %q, want %q", got, test.want)
		}
	}

	id := strings.Repeat("d", 64)
	box := run(t, s, Options{Container: id, Name: "web", Networks: []Attachment{{Network: "a"}}})
	_, err = s.Remove(t.Context(), "a")
	if used := (*InUseError)(nil); !errors.As(err, &used) || err.Error() != `error while removing network: network a has active endpoints (name:"web" id:"dddddddddddd")` {
		t.Errorf("remove: %v", err)
	}
	if list, err := s.Endpoints(a); err != nil || len(list) != 1 || fmt.Sprint(list) != fmt.Sprint(box.Endpoints()) {
		t.Errorf("endpoints %v, %v, want %v", list, err, box.Endpoints())
	}
	removed, err := s.Prune(t.Context(), func(n *Network) bool { return n.Name != "c" })
	if err != nil || fmt.Sprint(removed) != "[b]" {
		t.Errorf("pruned %v, %v", removed, err)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove(t.Context(), a.ID[:12]); err != nil {
		t.Error(err)
	}
	if exists(a.bridge()) {
		t.Error("the bridge of a removed network is left")
	}
	list, err = s.List()
	if got := names(list); err != nil || got != "bridge c host none" {
		t.Errorf("at last: %s, %v", got, err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestDamagedRecord: the error names the file.
func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, dir).Find("a"); err == nil || !strings.Contains(err.Error(), "a.json") {
		t.Error(err)
	}
}
