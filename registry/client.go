package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry/cloud"
)

// Options say how registries are spoken to. The zero value is right for people.
type Options struct {
	Credential *Credential // of the registry that is connected to first, instead of the configured one; of no other
	// Credentials are those of registries, by domain (docker.io or host[:port]), before the configured ones.
	Credentials map[string]Credential

	// Ask is asked for the credential of a domain that is not among them, before the configured ones; an empty one is none. Nil asks nobody.
	Ask func(ctx context.Context, domain string) (Credential, error)

	// Helpers are names of package cloud's, asked in this order for what is configured nowhere.
	Helpers   []string
	Insecure  bool       // allow http, and TLS without verification
	Offline   bool       // nobody is asked: every request is an error that is web.ErrOffline
	UserAgent string     // "" is forge
	Limits    web.Limits // zero fields have the defaults
	Events    event.Sink // takes a note of what went wrong before each new try, from any goroutine; may be nil

	config *config // nil is what the environment and the usual files say, read when first needed
}

// A Client holds what repositories share: connections, tokens, configuration. Safe for concurrent use.
type Client struct {
	opts   Options
	config func() (*config, error)
	cloud  *cloud.Helpers

	mu      sync.Mutex // guards what is below
	origins map[string]*origin
	known   string // registry that the given credential is of
}

// NewClient returns a client. It does nothing yet: files are read and connections made when a registry is asked.
func NewClient(opts Options) *Client {
	opts.Limits = opts.Limits.OrDefaults()
	if opts.UserAgent == "" {
		opts.UserAgent = "forge"
	}
	c := &Client{opts: opts, origins: map[string]*origin{}, cloud: cloud.New(opts.Helpers, os.Getenv, opts.Limits)}
	c.config = sync.OnceValues(func() (*config, error) {
		if opts.config != nil {
			return opts.config, nil
		}
		return readConfig(os.Getenv)
	})
	return c
}

// Close closes connections that are idle. The client stays usable.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, o := range c.origins {
		errs = append(errs, o.client.Close())
	}
	return errors.Join(errs...)
}

// Connect returns the repository that ref names, on its registry and that one's mirrors. It reads configuration and asks
// nothing of the network.
func (c *Client) Connect(ref image.Reference) (*Repository, error) {
	if ref.Domain == "" || ref.Path == "" {
		return nil, fmt.Errorf("reference %q names no repository", ref.String())
	}
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	places, err := conf.places(ref)
	if err != nil {
		return nil, err
	}
	r := &Repository{client: c, ref: ref}
	for _, p := range places {
		o, err := c.origin(conf, p)
		if err != nil {
			return nil, err
		}
		r.ends = append(r.ends, &endpoint{origin: o, path: p.path, mirror: p.mirror, use: p.use})
	}
	return r, nil
}

// Challenged reports whether the registry of a name has asked this client who it is.
func (c *Client) Challenged(ref image.Reference) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.origins {
		if o.name == ref.Domain && o.auth.wasChallenged() {
			return true
		}
	}
	return false
}

// origin returns what is known of the registry at p, of which there is one for all repositories.
func (c *Client) origin(conf *config, p place) (*origin, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	insecure := p.insecure || c.opts.Insecure
	key := fmt.Sprintf("%s %t %t", p.domain, insecure, p.mirror)
	if o := c.origins[key]; o != nil {
		return o, nil
	}
	limits := c.opts.Limits
	if p.mirror { // there is somebody else to ask
		limits.Tries, limits.GiveUp = min(limits.Tries, 2), limits.GiveUp/4
	}
	o := &origin{
		name: p.domain, host: apiHost(p.domain), insecure: insecure, limits: limits, offline: c.opts.Offline, events: c.opts.Events, conf: conf,
	}
	o.auth = newAuthorizer(o, c.given(p))
	o.auth.cloud = c.cloud
	if c.opts.Ask != nil && !p.mirror {
		o.auth.askFor = func(ctx context.Context) (Credential, error) { return c.opts.Ask(ctx, p.domain) }
	}
	if !insecure && !web.IsLoopbackName(o.host) {
		o.scheme = "https" // without asking
	}
	var err error
	if o.client, err = o.newClient(c.opts.UserAgent); err != nil {
		return nil, err
	}
	c.origins[key] = o
	return o, nil
}

// given is the caller's credential for a place, nil if it is another's. The caller holds mu.
func (c *Client) given(p place) *Credential {
	if p.mirror {
		return nil
	}
	if cred, ok := c.opts.Credentials[p.domain]; ok {
		return &cred
	}
	if c.opts.Credential == nil {
		return nil
	}
	if c.known == "" {
		c.known = p.domain
	}
	if c.known != p.domain {
		return nil
	}
	return c.opts.Credential
}

// dockerHub is the registry that speaks for the name docker.io.
const dockerHub = "registry-1.docker.io"

func apiHost(domain string) string {
	switch domain {
	case "docker.io", "index.docker.io":
		return dockerHub
	case hubSearch:
		return "index.docker.io"
	}
	return domain
}

// Search finds the repository that a name, as people type it, stands for, and what the name stands for there. A name
// without a registry is looked for in those that registries.conf lists for such names, in order; where it lists none, the name
// is one of Docker Hub's.
func (c *Client) Search(ctx context.Context, name string) (*Repository, ocispec.Descriptor, error) {
	conf, err := c.config()
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	refs, err := conf.candidates(name)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	var failed error
	for _, ref := range refs {
		repo, err := c.Connect(ref)
		if err == nil {
			var d ocispec.Descriptor
			repo = repo.Whole() // whoever asks for a name reads what it stands for
			if d, err = repo.Resolve(ctx, ref); err == nil {
				return repo, d, nil
			}
		}
		if failed == nil || errors.Is(failed, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			failed = err // that something is missing says less than that something is wrong
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, ocispec.Descriptor{}, failed
}
