package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// readEnvironment gives this process the variables of files that its environment does not have: of the user's file, and then of the machine's.
func readEnvironment() error {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".config")
	}
	for _, dir := range []string{dir, "/etc"} {
		if !filepath.IsAbs(dir) { // somebody without a home
			continue
		}
		if err := readVariables(filepath.Join(dir, "forge", "environment")); err != nil {
			return err
		}
	}
	return nil
}

// readVariables reads lines of NAME=VALUE, where NAME is one of forge's own variables. A line that begins with "#" is a comment.
func readVariables(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) { // as with HOME=/dev/null
		return nil
	}
	if err != nil {
		return err
	}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !strings.HasPrefix(name, "FORGE_") {
			return fmt.Errorf("%s:%d: must be FORGE_NAME=VALUE; the variables are in docs/guide/environment.md", path, n+1)
		}
		if _, set := os.LookupEnv(name); set {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n+1, err)
		}
	}
	return nil
}
