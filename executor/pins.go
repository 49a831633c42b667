package executor

import (
	"sync"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// Pins hold what a worker found at repositories and URLs when it described a step, so that it does the step with the same,
// whatever has become of them. The zero value is ready. Safe for concurrent use.
type pins struct {
	mu        sync.Mutex // guards all below
	commits   map[planner.GitRef]source.Commit
	downloads map[string]source.Download
}

func (p *pins) pinGit(ref planner.GitRef, c source.Commit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.commits == nil {
		p.commits = make(map[planner.GitRef]source.Commit)
	}
	p.commits[ref] = c
}

func (p *pins) git(ref planner.GitRef) (source.Commit, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.commits[ref]
	return c, ok
}

func (p *pins) pinURL(address string, d source.Download) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.downloads == nil {
		p.downloads = make(map[string]source.Download)
	}
	p.downloads[address] = d
}

func (p *pins) url(address string) (source.Download, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.downloads[address]
	return d, ok
}
