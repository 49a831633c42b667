package executor

import "sync"

// Pins hold what a worker found at repositories and URLs when it described a step, so that it does the step with the same,
// whatever has become of them. The zero value is ready. Safe for concurrent use.
type pins struct {
	mu        sync.Mutex // guards all below
	commits   map[string]gitCommit
	downloads map[string]download
}

func (p *pins) pinGit(address string, c gitCommit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.commits == nil {
		p.commits = make(map[string]gitCommit)
	}
	p.commits[address] = c
}

func (p *pins) git(address string) (gitCommit, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.commits[address]
	return c, ok
}

func (p *pins) pinURL(address string, d download) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.downloads == nil {
		p.downloads = make(map[string]download)
	}
	p.downloads[address] = d
}

func (p *pins) url(address string) (download, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, ok := p.downloads[address]
	return d, ok
}
