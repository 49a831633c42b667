//go:build failpoint

// Package failpoint names the places where a test may kill the process or make an operation fail.
package failpoint

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// At dies by SIGKILL or returns an error if FORGE_FAILPOINT is "name:kill" or "name:error".
func At(name string) error {
	point, action, _ := strings.Cut(os.Getenv("FORGE_FAILPOINT"), ":")
	if point != name {
		return nil
	}
	if action == "kill" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return fmt.Errorf("fail point %s", name)
}
