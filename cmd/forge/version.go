package main

import (
	"fmt"
	"runtime"
)

// version is set by the linker: -ldflags "-X main.version=…".
var version = "dev" //nolint:gochecknoglobals // the linker sets variables only

type versionCmd struct{}

func (c *versionCmd) Run(s *session) error {
	_, err := fmt.Fprintln(s.out, versionLine())
	return err
}

func versionLine() string {
	return fmt.Sprintf("forge %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
