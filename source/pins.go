package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
)

// Pins say what names stand for that could stand for something else tomorrow: tags of images, URLs and refs of repositories. They are the
// content of a file that people keep beside their build file. A nil *Pins pins nothing. Safe for concurrent use.
type Pins struct {
	mu     sync.Mutex // guards all below
	have   pinned
	update bool // what the file says does not count
	met    bool // something that the file does not say

	addresses map[string]string // of this build: whole URLs by what the file has of them
}

// pinned is the file, as JSON.
type pinned struct {
	Version      int                 `json:"version"`
	Images       map[string]string   `json:"images,omitempty"`       // names as docker writes them in full: REPOSITORY@DIGEST
	URLs         map[string]Download `json:"urls,omitempty"`         // without names, passwords and tokens
	Repositories map[string]Commit   `json:"repositories,omitempty"` // ADDRESS#REF
}

const pinsVersion = 1

// PinsFile is the name of that file.
const PinsFile = "forge.lock"

// ParsePins reads a file of pins.
func ParsePins(raw []byte) (*Pins, error) {
	p := &Pins{}
	if err := json.Unmarshal(raw, &p.have); err != nil {
		return nil, err
	}
	if p.have.Version != pinsVersion {
		return nil, fmt.Errorf("is of version %d, and this forge knows %d", p.have.Version, pinsVersion)
	}
	for name, to := range p.have.Images {
		if r, err := image.ParseReference(to); err != nil || r.Digest == "" {
			return nil, fmt.Errorf("image %q: %q is no REPOSITORY@DIGEST", name, to)
		}
	}
	for address, d := range p.have.URLs {
		if err := image.CheckDigest(d.Digest); err != nil || d.Size < 0 {
			return nil, fmt.Errorf("URL %q: is not pinned to a digest and a size", address)
		}
	}
	for address, c := range p.have.Repositories {
		if !planner.IsCommit(c.ID) || strings.HasPrefix(c.Ref, "-") || c.Tag != "" && !planner.IsCommit(c.Tag) {
			return nil, fmt.Errorf("repository %q: %q is no commit", address, c.ID)
		}
	}
	return p, nil
}

// JoinPins is what several files pin together, to be read only. Two that pin one name to different things are an error.
func JoinPins(files []*Pins) (*Pins, error) {
	all := &Pins{}
	for _, p := range files {
		if p == nil {
			continue
		}
		if err := errors.Join(join(&all.have.Images, p.have.Images), join(&all.have.URLs, p.have.URLs), join(&all.have.Repositories, p.have.Repositories)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func join[V comparable](to *map[string]V, from map[string]V) error {
	for name, v := range from {
		if old, ok := (*to)[name]; ok && old != v {
			return fmt.Errorf("%q: two %s of this build pin it to different things: build their targets apart", name, PinsFile)
		}
		if *to == nil {
			*to = map[string]V{}
		}
		(*to)[name] = v
	}
	return nil
}

// Update forgets what the file says of whatever is asked for from now on, and keeps the rest.
func (p *Pins) Update() { p.update = true }

// Updating reports whether what the file says does not count.
func (p *Pins) Updating() bool { return p != nil && p.update }

// Bytes is the file with all that was met; false if that is what it says already.
func (p *Pins) Bytes() ([]byte, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.met {
		return nil, false, nil
	}
	p.have.Version = pinsVersion
	raw, err := json.MarshalIndent(p.have, "", "  ")
	return append(raw, '\n'), true, err
}

// pin is what a name is pinned to, as all that a build asks twice it is told once.
func pin[V comparable](p *Pins, of func(*pinned) *map[string]V, name string) (v V, ok bool) {
	if p == nil || p.update {
		return v, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok = (*of(&p.have))[name]
	return v, ok
}

// setPin remembers what a name was found to stand for.
func setPin[V comparable](p *Pins, of func(*pinned) *map[string]V, name string, v V) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m := of(&p.have)
	if old, ok := (*m)[name]; ok && old == v {
		return
	}
	*m = maps.Clone(*m)
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name], p.met = v, true
}

func pinnedImages(p *pinned) *map[string]string { return &p.Images }
func pinnedURLs(p *pinned) *map[string]Download { return &p.URLs }
func pinnedRefs(p *pinned) *map[string]Commit   { return &p.Repositories }

// Image is the REPOSITORY@DIGEST that a name is pinned to, "" if it is not.
func (p *Pins) Image(name string) string {
	to, _ := pin(p, pinnedImages, name)
	return to
}

// SetImage remembers what a name stands for.
func (p *Pins) SetImage(name, to string) { setPin(p, pinnedImages, name, to) }

// nameURL is the name that a URL has in the file, which shows no secrets. So two URLs that differ in nothing else have one name: a build
// that has both is refused, since one would be given what the other holds.
func (p *Pins) nameURL(address string) (string, error) {
	name := shownURL(address)
	if p == nil {
		return name, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, ok := p.addresses[name]; ok && other != address {
		return "", fmt.Errorf("%s: the build reads two URLs that differ only in what %s does not show: give each ADD a --checksum", name, PinsFile)
	}
	if p.addresses == nil {
		p.addresses = map[string]string{}
	}
	p.addresses[name] = address
	return name, nil
}

func shownURL(address string) string { return web.Redact(web.WithoutLogin(address)) }

func (g *Git) shown() string { return shownURL(g.Remote) + "#" + g.Ref }
