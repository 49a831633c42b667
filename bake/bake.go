// Package bake reads files that describe many images to build: docker-bake.hcl, docker-bake.json, and the build parts of compose files. What
// comes of them is plain data: targets, and groups of them, with everything inherited, multiplied and overridden.
//
// It means what buildx's bake means, whose words it has. It opens nothing but the files that it is told to read and those that they name.
package bake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/bake/hcl"
)

// maxFile is how large a file may be, in bytes.
const maxFile = 4 << 20

// Options say what to read, in the words of buildx's flags.
type Options struct {
	Files    []string // "-" is Stdin; none are those that have their usual names, see defaultFiles
	Stdin    io.Reader
	Vars     map[string]string // --var
	Getenv   func(name string) (string, bool)
	Platform string // of this machine: BAKE_LOCAL_PLATFORM

	// Open opens a file that was named, which may be a pipe that nobody writes to; nil is os.Open, which waits for whoever does.
	Open func(name string) (io.ReadCloser, error)
}

// defaultFiles are the names that are looked for, in this order: all that are there are read, and what comes later overrides.
func defaultFiles() []string {
	return []string{
		"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml",
		"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl",
	}
}

// IsFile reports whether a file is a bake file by its name: one of defaultFiles, or any in HCL.
func IsFile(name string) bool {
	base := filepath.Base(name)
	return filepath.Ext(base) == ".hcl" || slices.Contains(defaultFiles(), base)
}

// A File is what files describe.
type File struct {
	Groups    []*Group
	Targets   []*Target
	Variables []Variable // of HCL and JSON
	Names     []string   // of the files that were read

	copied int // values that targets have of others, as in maxCopied
}

// A Group is several targets, or groups, under one name.
type Group struct {
	Name        string   `json:"-"`
	Description string   `json:"description,omitempty"`
	Targets     []string `json:"targets"`
}

// A Variable is one that a file declares.
type Variable struct {
	Name        string  `json:"name"`
	Description string  `json:"description,omitempty"`
	Type        string  `json:"type,omitempty"`
	Value       *string `json:"value,omitempty"`
}

// Read reads files.
func Read(o Options) (*File, error) {
	names, chosen := o.Files, len(o.Files) > 0
	if !chosen {
		names = defaultFiles()
	}
	f := &File{}
	var composes []composeFile
	var bodies []*hcl.Body
	for _, name := range names {
		text, err := o.read(name)
		if errors.Is(err, fs.ErrNotExist) && !chosen {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("bake file: %w", err)
		}
		f.Names = append(f.Names, name)
		body, err := parse(name, text)
		if err != nil {
			return nil, err
		}
		if body == nil {
			composes = append(composes, composeFile{name, text})
		} else {
			bodies = append(bodies, body)
		}
	}
	if len(f.Names) == 0 {
		return nil, fmt.Errorf("couldn't find a bake definition: no %s here; name one with -f FILE", strings.Join(defaultFiles(), ", "))
	}
	if len(composes) > 0 {
		if err := f.readCompose(composes, o); err != nil {
			return nil, err
		}
	}
	if len(bodies) > 0 {
		if err := f.evaluate(bodies, o); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// read reads a file, or standard input.
func (o Options) read(name string) ([]byte, error) {
	if name == "-" {
		if o.Stdin == nil {
			return nil, errors.New("there is no standard input")
		}
		return readAll(name, o.Stdin)
	}
	return o.readFile(name)
}

// readFile reads a file.
func (o Options) readFile(name string) ([]byte, error) {
	open := o.Open
	if open == nil {
		open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return readAll(name, f)
}

func readAll(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return text, err
}

// add adds a target: to one of the same name what it says, too.
func (f *File) add(t *Target) {
	for _, other := range f.Targets {
		if other.Name == t.Name {
			other.merge(t)
			return
		}
	}
	f.Targets = append(f.Targets, t)
}

// addGroup adds a group, in the place of one of the same name.
func (f *File) addGroup(g *Group) {
	g.Targets = unique(g.Targets)
	for i, other := range f.Groups {
		if other.Name == g.Name {
			f.Groups[i] = g
			return
		}
	}
	f.Groups = append(f.Groups, g)
}

func unique(list []string) []string {
	var out []string
	seen := make(map[string]bool, len(list))
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// checkName refuses what cannot name a target.
func checkName(name string) error {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-') {
			return fmt.Errorf("%q: the name of a target or group has only the characters a-z, A-Z, 0-9, _ and -", name)
		}
	}
	if name == "" {
		return errors.New("a target or group needs a name")
	}
	return nil
}
