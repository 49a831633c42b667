package registry

import (
	"errors"
	"os"
)

// A Description is what the files of configuration say of registries, for people.
type Description struct {
	Files   []string // that are read, and are there
	Mirrors []string // LOCATION → MIRROR, and why not all of it
	Search  []string // registries that a name without one is looked for in
}

// Describe reads the files of configuration, where the environment and the home directory of this process have them.
func Describe() (d Description, err error) {
	c, err := readConfig(os.Getenv)
	files, filesErr := registriesFiles(os.Getenv)
	if err := errors.Join(err, filesErr); err != nil {
		return d, err
	}
	for _, path := range append(files, authPaths(os.Getenv)...) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			d.Files = append(d.Files, path)
		}
	}
	d.Search = c.search
	for _, r := range c.registries {
		for _, m := range r.Mirrors {
			line := r.Prefix + " → " + m.Location
			if m.Insecure {
				line += " (insecure)"
			}
			d.Mirrors = append(d.Mirrors, line)
		}
		if r.Blocked {
			d.Mirrors = append(d.Mirrors, r.Prefix+" (blocked)")
		}
	}
	return d, nil
}
