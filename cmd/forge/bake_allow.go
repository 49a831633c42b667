package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	if os.Getenv("BUILDX_BAKE_ENTITLEMENTS_FS") == "0" || os.Getenv("BUILDX_BAKE_ENTITLEMENTS_FS") == "false" {
		a.read, a.write = []string{"*"}, []string{"*"}
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

// check refuses what a target asks for and was not allowed.
func (a *allowance) check(t *forge.BakeTarget) error {
	for _, want := range t.List("entitlements") {
		name, _, _ := strings.Cut(want, "=")
		if !slices.Contains(a.granted, want) && !(name == "device" && slices.Contains(a.granted, "device")) {
			return fmt.Errorf("it asks for %s, which a bake file gets only with --allow %[1]s", want)
		}
	}
	reads, writes := pathsOf(t)
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

// pathsOf are the files and directories of this machine that a target reads and writes.
func pathsOf(t *forge.BakeTarget) (reads, writes []string) {
	if dir, remote := localContext(t.Text("context")); !remote {
		reads = append(reads, dir)
		file := strings.TrimPrefix(t.Text("dockerfile"), "cwd://")
		if !t.Inline() && !strings.Contains(file, "://") {
			if !filepath.IsAbs(file) && file == t.Text("dockerfile") {
				file = filepath.Join(dir, file)
			}
			reads = append(reads, file)
		}
	}
	for _, from := range t.Texts("contexts") {
		if dir, ok := strings.CutPrefix(from, "oci-layout://"); ok {
			dir, _, _ = strings.Cut(dir, "@")
			reads = append(reads, dir)
		} else if dir, remote := localContext(from); !remote && !strings.HasPrefix(from, "target:") && !strings.HasPrefix(from, "docker-image:") {
			reads = append(reads, dir)
		}
	}
	for _, e := range t.Entries("secret") {
		if src := e.Get("src"); src != "" {
			reads = append(reads, src)
		} else if _, set := os.LookupEnv(e.Get("id")); e.Get("env") == "" && !set {
			reads = append(reads, e.Get("id"))
		}
	}
	for _, e := range t.Entries("ssh") {
		reads = append(reads, e.Paths()...)
	}
	for _, e := range t.Entries("cache-from") {
		if e.Get("type") == "local" {
			reads = append(reads, e.Get("src"))
		}
	}
	for _, e := range t.Entries("cache-to") {
		if e.Get("type") == "local" {
			writes = append(writes, e.Get("dest"))
		}
	}
	for _, e := range t.Entries("output") {
		if dest := e.Get("dest"); dest != "" && dest != "-" {
			writes = append(writes, dest)
		}
	}
	return reads, writes
}
