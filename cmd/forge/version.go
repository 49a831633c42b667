package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/forge-build/forge"
)

// version is set by the linker: -ldflags "-X main.version=…". What go install makes knows its version without that.
var version string //nolint:gochecknoglobals // the linker sets variables only

type versionCmd struct {
	Format string `short:"f" help:"A Go template of docker's fields, or json." placeholder:"TEMPLATE"`
}

func (c *versionCmd) Run(s *session) error {
	if c.Format != "" {
		client, server := forge.EngineVersion(versionText()), forge.EngineVersion(versionText())
		client.KernelVersion, client.Components, client.Platform, client.Context = "", nil, nil, theContext
		both := struct{ Client, Server forge.VersionInfo }{client, server}
		if c.Format == "json" {
			return json.NewEncoder(jsonWriter{s.out}).Encode(both)
		}
		t, err := parseTemplate(c.Format)
		if err != nil {
			return err
		}
		return t.Execute(s.out, both)
	}
	_, err := fmt.Fprintln(s.out, versionLine())
	return err
}

func versionLine() string {
	return fmt.Sprintf("forge %s %s %s/%s", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// versionText is the version alone.
func versionText() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	return cmp.Or(v, "dev")
}
