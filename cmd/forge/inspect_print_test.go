package main

import (
	"strings"
	"testing"

	"github.com/forge-build/forge/inspect"
)

// TestDockerFields: templates that were written for docker find all of its fields, also those that the JSON leaves out and those that forge has
// nothing to say of, empty as docker's are.
func TestDockerFields(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value          any
		template, want string
	}{
		{
			&inspect.Container{}, "{{.HostConfig.Dns}} {{.HostConfig.KernelMemory}} {{.Config.Healthcheck}} {{.Config.StopSignal}} {{.Mounts}} {{.State.Health}} {{.HostConfig.Sysctls}}",
			"[] 0 <nil>  [] <nil> map[]",
		},
		{
			&inspect.Image{Architecture: "arm64"}, "{{.Config.Hostname}} {{.VirtualSize}} {{.Metadata.LastTagTime}} {{.Config.Env}} {{.ContainerConfig.Cmd}} {{.Variant}} {{.Architecture}}",
			" 0 0001-01-01T00:00:00Z [] []  arm64",
		},
		{&inspect.Network{}, "{{.Peers}} {{.Services}} {{.IPAM.Config}} {{.IPAM.Options}} {{.ConfigFrom.Network}}", "[] map[] [] map[] "},
	} {
		parsed, err := parseTemplate(test.template)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := executeFor(&b, parsed, test.value); err != nil || strings.TrimSuffix(b.String(), "\n") != test.want {
			t.Errorf("%T: %q, %v; want %q", test.value, b.String(), err, test.want)
		}
		if parsed, err = parseTemplate("{{.Nowhere}}"); err != nil {
			t.Fatal(err)
		}
		if err := executeFor(&b, parsed, test.value); err == nil {
			t.Errorf("%T has a field that docker has not", test.value)
		}
	}
}
