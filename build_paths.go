package forge

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/source"
)

// IsRemote reports whether a context is a repository or a URL, and no directory of this machine.
func IsRemote(context string) bool { return source.IsRemote(context) }

// LocalPaths are the files and directories of this machine that a build opens by name, to read and to write. Each is read from the options
// by what reads it when the build begins: whoever allows them allows what is opened. What cannot be read the build refuses.
func (o *BuildOptions) LocalPaths() (reads, writes []string) {
	if o.Context != "-" && !source.IsRemote(o.Context) {
		reads = append(reads, o.Context)
		if file, err := source.FindBuildFile(o.Context, o.File); err == nil && file != "-" && !source.IsURL(file) {
			reads = append(reads, file)
			for _, beside := range []string{file + ".dockerignore", filepath.Join(filepath.Dir(file), source.PinsFile)} {
				if _, err := os.Lstat(beside); err == nil { // it may be a link
					reads = append(reads, beside)
				}
			}
		}
	}
	for _, from := range o.Contexts {
		switch layout, isLayout := strings.CutPrefix(from, layoutPrefix); {
		case isLayout:
			dir, _ := cutLayout(layout)
			reads = append(reads, dir)
		case strings.HasPrefix(from, "docker-image://") || strings.HasPrefix(from, "target:") || source.IsRemote(from):
		default:
			reads = append(reads, from)
		}
	}
	for _, spec := range o.Secrets {
		if secret, _ := container.ParseSecret(spec); secret.File != "" {
			reads = append(reads, secret.File)
		}
	}
	for _, spec := range o.SSH {
		key, _ := container.ParseSSH(spec)
		reads = append(reads, key.Paths...)
	}
	for _, c := range slices.Concat(o.From, o.To) {
		if dir := c.Attrs["dest"]; dir != "" {
			writes = append(writes, dir)
		}
		if dir := c.Attrs["src"]; dir != "" {
			reads = append(reads, dir)
		}
	}
	for _, out := range o.Outputs {
		if out.Dest != "" && out.Dest != "-" {
			writes = append(writes, out.Dest)
		}
	}
	slices.Sort(reads)
	return reads, writes
}

// LendsAgent reports whether RUN may sign with the caller's SSH agent.
func (o *BuildOptions) LendsAgent() bool {
	return slices.ContainsFunc(o.SSH, func(spec string) bool {
		key, _ := container.ParseSSH(spec)
		return len(key.Paths) == 0
	})
}
