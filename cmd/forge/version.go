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

// A versionSide is what docker says of its client and of its daemon; here they are one program.
type versionSide struct {
	Version, ApiVersion, DefaultAPIVersion, MinAPIVersion, GitCommit, GoVersion, Os, Arch, KernelVersion, BuildTime, Context string //nolint:staticcheck // docker's names

	Components []versionComponent
}

type versionComponent struct {
	Name, Version string
	Details       map[string]string
}

func (c *versionCmd) Run(s *session) error {
	if c.Format != "" {
		client := versionClient()
		server := client
		server.KernelVersion, server.Context = forge.KernelRelease(), ""
		server.Components = []versionComponent{{"Engine", server.Version, map[string]string{
			"Arch": server.Arch, "GitCommit": server.GitCommit, "GoVersion": server.GoVersion, "KernelVersion": server.KernelVersion, "Os": server.Os,
		}}}
		both := struct{ Client, Server versionSide }{client, server}
		if c.Format == "json" {
			return json.NewEncoder(s.out).Encode(both)
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

// versionClient is what docker says of its client.
func versionClient() versionSide {
	v := versionSide{
		Version: versionText(), GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, Context: theContext,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.GitCommit = s.Value
			case "vcs.time":
				v.BuildTime = s.Value
			}
		}
	}
	return v
}

// versionText is the version alone.
func versionText() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); v == "" && ok && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	return cmp.Or(v, "dev")
}
