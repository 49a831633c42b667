package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge"
)

// An allowance is what a bake file may ask for: it is often somebody else's, and reads, writes and reaches out as whoever bakes.
type allowance struct {
	granted []string // network.host, security.insecure, device, …
	read    []string // directories of this machine, links followed; "*" is all
	write   []string
}

// parseAllowed reads --allow. What is beneath this directory is allowed.
func parseAllowed(flags []string) (a allowance, err error) {
	here, err := resolved(".")
	if err != nil {
		return a, err
	}
	a.read, a.write = []string{here}, []string{here}
	if value, ok := os.LookupEnv("BUILDX_BAKE_ENTITLEMENTS_FS"); ok { // in buildx the agent is among the files
		asks, err := strconv.ParseBool(value)
		if err != nil {
			return a, fmt.Errorf("BUILDX_BAKE_ENTITLEMENTS_FS=%s: must be true or false", value)
		}
		if !asks {
			a.read, a.write, a.granted = []string{"*"}, []string{"*"}, []string{"ssh"}
		}
	}
	for _, flag := range flags {
		name, path, _ := strings.Cut(flag, "=")
		if path != "*" && strings.HasPrefix(name, "fs") {
			if path, err = resolved(path); err != nil {
				return a, fmt.Errorf("--allow %s: %w", flag, err)
			}
		}
		switch name {
		case "fs.read":
			a.read = append(a.read, path)
		case "fs.write":
			a.write = append(a.write, path)
		case "fs":
			a.read, a.write = append(a.read, path), append(a.write, path)
		case "network.host", "security.insecure", "device", "ssh", "image", "image.push", "image.load":
			a.granted = append(a.granted, flag)
		default:
			return a, fmt.Errorf("--allow %s: unknown entitlement key %q", flag, name)
		}
	}
	return a, nil
}

// resolved is a path in truth: absolute, links followed as far as it exists. A path through a link that leads nowhere is refused, since
// whoever writes there makes what it leads to, and so is ".." behind what does not exist.
func resolved(path string) (string, error) {
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = here + "/" + path // not cleaned: ".." behind a link is above what the link leads to
	}
	rest := ""
	for {
		found, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(found, rest), nil
		}
		dir, last := filepath.Split(strings.TrimRight(path, "/"))
		if _, there := os.Lstat(path); there == nil || last == ".." {
			return "", err
		}
		path, rest = dir, filepath.Join(last, rest)
	}
}

// permits reports whether a path is beneath one of some directories.
func permits(dirs []string, path string) bool {
	if slices.Contains(dirs, "*") {
		return true
	}
	path, err := resolved(path)
	return err == nil && slices.ContainsFunc(dirs, func(dir string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel)
	})
}

// check refuses what the build of a target would do and was not allowed. It looks at what the build is told and not at the bake file, whose
// words could be read in two ways.
func (a *allowance) check(o *forge.BuildOptions) error {
	wants := slices.Clone(o.Allow)
	if o.LendsAgent() {
		wants = append(wants, "ssh")
	}
	for _, want := range wants {
		name, _, _ := strings.Cut(want, "=")
		if !slices.Contains(a.granted, want) && !(name == "device" && slices.Contains(a.granted, "device")) {
			return fmt.Errorf("it asks for %s, which a bake file gets only with --allow %[1]s", want)
		}
	}
	reads, writes := o.LocalPaths()
	for _, one := range []struct {
		how   string
		dirs  []string
		paths []string
	}{{"fs.read", a.read, reads}, {"fs.write", a.write, writes}} {
		for _, path := range one.paths {
			if !permits(one.dirs, path) {
				return fmt.Errorf("%s is outside of this directory, and a bake file gets it only with --allow %s=%s", path, one.how, path)
			}
		}
	}
	return nil
}
