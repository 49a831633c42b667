package planner

import (
	"strings"
	"testing"
)

func TestEntitlementsDevice(t *testing.T) {
	for _, test := range []struct {
		allow string
		want  bool
	}{
		{"", false},
		{"device", true},
		{"device=v/c=1", true},
		{"device=v/c=2", false},
		{"devices", false},
		{"device=x/y=0,alias=v/c=1", true},
		{"device=x/y=0,alias=v/c=2", false},
		{"network.host,alias=v/c=1", false},
	} {
		if got := (Entitlements{"network.host", test.allow}).Device("v/c=1"); got != test.want {
			t.Errorf("Device with %q = %t, want %t", test.allow, got, test.want)
		}
	}
}

// TestEntitlementsOfNetwork: what the command line says of all steps needs no grant besides; what the file says does.
func TestEntitlementsOfNetwork(t *testing.T) {
	const denied, file = "network.host is not allowed", "FROM plain\nRUN x\n"
	for _, test := range []struct {
		name, file string
		opt        Options
		want       string
	}{
		{"of the command line", file, Options{Network: "host"}, ""},
		{"of both", "FROM plain\nRUN --network=host x\n", Options{Network: "host"}, ""},
		{"of the file", "FROM plain\nRUN --network=host x\n", Options{}, denied},
		{"of the file, granted", "FROM plain\nRUN --network=host x\n", Options{Allow: Entitlements{"network.host"}}, ""},
		{"insecure", "FROM plain\nRUN --security=insecure x\n", Options{Network: "host"}, "security.insecure is not allowed"},
	} {
		test.opt.Resolver = &images{}
		_, err := Plan(t.Context(), parse(t, test.file), test.opt)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s: error = %q, want %q", test.name, got, test.want)
		}
	}
}
