// Package sbom lists the packages that are installed in a file tree, and says so as an SPDX document.
//
// What it knows: the databases of dpkg, apk and rpm, the package.json files of npm, and what Go writes into programs. All of it is
// read, nothing is executed; what a tree holds is not trusted, and every length is bounded.
package sbom

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A Package is something that was installed.
type Package struct {
	Name    string
	Version string
	License string // as its database says; "" if it does not
	Source  string // the file that says so, absolute in the tree
	URL     string // package URL, https://github.com/package-url/purl-spec
}

// Limits of what is read of one file.
const (
	maxDatabase = 256 << 20
	maxDocument = 4 << 20
	maxPackages = 1_000_000
	maxText     = 128 << 20 // bytes of all that is said of packages
)

// A scan is one reading of a tree.
type scan struct {
	ctx    context.Context // of the one Scan; every reader looks at it
	tree   filetree.Tree
	distro distro
	found  map[string]Package // by URL and Source
	text   int                // bytes of what was found
}

// Scan lists the packages of a tree, sorted by package URL, then by the file that names them. A database that is there and cannot be
// read is an error: the list would lack what is in it.
func Scan(ctx context.Context, tree filetree.Tree) ([]Package, error) {
	s := &scan{ctx: ctx, tree: tree, found: map[string]Package{}}
	s.distro = s.readDistro()
	if err := filetree.Walk(ctx, tree, ".", s.visit); err != nil {
		return nil, err
	}
	all := make([]Package, 0, len(s.found))
	for _, p := range s.found {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Package) int {
		return strings.Compare(a.URL+"\x00"+a.Source, b.URL+"\x00"+b.Source)
	})
	return all, nil
}

// readers are the databases, by where they are.
func (s *scan) reader(name string) func(string) error {
	dir, base := path.Split(name)
	switch {
	case name == "var/lib/dpkg/status", dir == "var/lib/dpkg/status.d/" && path.Ext(base) == "": // the second is of images without dpkg
		return s.dpkg
	case name == "lib/apk/db/installed", name == "usr/lib/apk/db/installed":
		return s.apk
	case dir != "var/lib/rpm/" && dir != "usr/lib/sysimage/rpm/":
		return nil
	case base == "rpmdb.sqlite":
		return s.rpmSQLite
	case base == "Packages.db":
		return s.rpmNDB
	case base == "Packages":
		return s.rpmBDB
	}
	return nil
}

// visit looks at one file.
func (s *scan) visit(name string, e *filetree.Entry, _ *filetree.Sum) error {
	if e == nil || e.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	read := s.reader(name)
	switch {
	case read != nil:
	case e.Name == "package.json" && isModule(path.Dir(name)):
		read = s.npm
	case e.Mode&0o111 != 0 && e.Size > 4096:
		read = s.program
	default:
		return nil
	}
	if err := read(name); err != nil {
		return fmt.Errorf("packages of /%s: %w", name, err)
	}
	return nil
}

// add notes a package. What is installed is named; the rest may be unknown.
func (s *scan) add(source string, p Package) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if p.Name == "" {
		return nil
	}
	p.Source = "/" + source
	s.found[p.URL+"\x00"+p.Source] = p
	s.text += len(p.Name) + len(p.Version) + len(p.License) + len(p.URL) + len(p.Source)
	if len(s.found) > maxPackages {
		return fmt.Errorf("there are more than %d", maxPackages)
	}
	if s.text > maxText {
		return fmt.Errorf("what is said of all that are found is longer than %d bytes", maxText)
	}
	return nil
}

// read reads a small file.
func (s *scan) read(name string) ([]byte, error) {
	f, err := s.tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("is longer than %d bytes", maxDocument)
	}
	return data, err
}

// paragraphs reads a file of paragraphs, each of lines "key:value", and calls fn for each with the values of some keys. Lines that
// continue another are left out.
func (s *scan) paragraphs(name string, keys []string, fn func(fields map[string]string) error) error {
	f, err := s.tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxDatabase))
	lines.Buffer(nil, maxDocument)
	fields := map[string]string{}
	for lines.Scan() {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		line := lines.Text()
		if line == "" {
			if err := fn(fields); err != nil {
				return err
			}
			clear(fields)
			continue
		}
		if key, value, ok := strings.Cut(line, ":"); ok && slices.Contains(keys, key) {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return errors.Join(fn(fields), lines.Err())
}

// dpkg reads the status of Debian's packages (dpkg(1), deb-control(5)).
func (s *scan) dpkg(name string) error {
	return s.paragraphs(name, []string{"Package", "Status", "Version", "Architecture"}, func(f map[string]string) error {
		if status := f["Status"]; status != "" && !strings.HasSuffix(status, " installed") {
			return nil
		}
		return s.add(name, Package{
			Name: f["Package"], Version: f["Version"],
			URL: s.distro.url("deb", "debian", f["Package"], f["Version"], "arch", f["Architecture"]),
		})
	})
}

// apk reads what Alpine has installed (apk-package(5): P is the name, V the version, A the architecture, L the license).
func (s *scan) apk(name string) error {
	return s.paragraphs(name, []string{"P", "V", "A", "L"}, func(f map[string]string) error {
		return s.add(name, Package{
			Name: f["P"], Version: f["V"], License: f["L"],
			URL: s.distro.url("apk", "alpine", f["P"], f["V"], "arch", f["A"]),
		})
	})
}

// isModule reports whether a directory is one that npm installs a package in: DIR/node_modules/NAME or DIR/node_modules/@SCOPE/NAME.
func isModule(dir string) bool {
	parent := path.Dir(dir)
	if strings.HasPrefix(path.Base(parent), "@") {
		parent = path.Dir(parent)
	}
	return path.Base(parent) == "node_modules"
}

// npm reads the description of a package of Node. One that is no JSON is not one: packages carry such files as test data.
func (s *scan) npm(name string) error {
	data, err := s.read(name)
	if err != nil {
		return err
	}
	var p struct {
		Name, Version string
		License       json.RawMessage // a string, or, in old ones, an object
	}
	if json.Unmarshal(data, &p) != nil {
		return nil
	}
	var license string
	_ = json.Unmarshal(p.License, &license)
	return s.add(name, Package{Name: p.Name, Version: p.Version, License: license, URL: purl("npm", p.Name, p.Version)})
}

// program reads what the Go tool has written into a program about the modules in it.
func (s *scan) program(name string) error {
	f, err := s.tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != "\x7fELF" {
		return nil
	}
	info, err := buildinfo.Read(f)
	if err != nil {
		return nil // it is of another language
	}
	modules := append([]*buildinfoModule{&info.Main}, info.Deps...)
	for _, m := range modules {
		if m.Replace != nil {
			m = m.Replace
		}
		if err := s.add(name, Package{Name: m.Path, Version: m.Version, URL: purl("golang", m.Path, m.Version)}); err != nil {
			return err
		}
	}
	if version, _, _ := strings.Cut(info.GoVersion, " "); version != "" {
		return s.add(name, Package{
			Name: "stdlib", Version: strings.TrimPrefix(version, "go"), License: "BSD-3-Clause",
			URL: purl("golang", "stdlib", strings.TrimPrefix(version, "go")),
		})
	}
	return nil
}

// A distro is what os-release(5) says of the system in a tree.
type distro struct{ id, version string }

func (s *scan) readDistro() (d distro) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		name, err := filetree.Resolve(s.tree.Lstat, name)
		if err != nil {
			continue
		}
		data, err := s.read(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "ID":
				d.id = value
			case "VERSION_ID":
				d.version = value
			}
		}
		return d
	}
	return d
}

// errTooShort means that a database ends before what it names.
var errTooShort = errors.New("is damaged: it ends too early")
