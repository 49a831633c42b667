package forge

import (
	goruntime "runtime"
	"runtime/debug"
)

// A VersionInfo is what docker says of its client and of its engine; here they are one program.
type VersionInfo struct {
	Version, ApiVersion, DefaultAPIVersion, MinAPIVersion, GitCommit, GoVersion, Os, Arch, KernelVersion, BuildTime, Context string //nolint:staticcheck // docker's names

	Components []VersionComponent
	Platform   *VersionPlatform `json:",omitempty"` // of an engine
}

// A VersionPlatform says for people what an engine is.
type VersionPlatform struct{ Name string }

// A VersionComponent is a part of an engine.
type VersionComponent struct {
	Name, Version string
	Details       map[string]string
}

// EngineVersion says what this program is, under docker's names. The version is that of the program.
func EngineVersion(version string) VersionInfo {
	v := VersionInfo{
		Version: version, GoVersion: goruntime.Version(), Os: goruntime.GOOS, Arch: goruntime.GOARCH, KernelVersion: kernelRelease(),
	}
	v.Platform = &VersionPlatform{"forge " + version}
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
	v.Components = []VersionComponent{{"Engine", v.Version, map[string]string{
		"Arch": v.Arch, "GitCommit": v.GitCommit, "GoVersion": v.GoVersion, "KernelVersion": v.KernelVersion, "Os": v.Os,
	}}}
	return v
}
