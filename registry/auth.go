package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry/cloud"
)

// A Credential is what a registry knows a user by. Its String is safe to show.
type Credential struct {
	Username      string
	Password      string
	IdentityToken string // exchanged for access tokens (OAuth 2 refresh token)
	RegistryToken string // sent as it is
}

func (c Credential) empty() bool { return c == Credential{} }

// String hides what must not be shown.
func (c Credential) String() string {
	if c.empty() {
		return "no credential"
	}
	return "credential of " + c.Username
}

// GoString hides what must not be shown, from %#v too.
func (c Credential) GoString() string { return c.String() }

// A challenge is one of those of a WWW-Authenticate header.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// An authorizer answers an origin's challenges and remembers how.
type authorizer struct {
	origin *origin
	given  *Credential                                   // by the caller
	askFor func(ctx context.Context) (Credential, error) // asks the caller for it; may be nil
	cloud  *cloud.Helpers                                // asked at last

	mu      sync.Mutex // guards what is below, and is held while a token is asked for: others would ask for the same
	scheme  string     // basic or bearer, "" before the first challenge
	realm   *url.URL
	service string
	tokens  map[string]token // by repository and scopes
	extra   map[string][]string
	basics  map[string]string // by repository: Authorization
}

// A token allows its bearer something for a while.
type token struct {
	value  string
	expiry time.Time
}

// fresh leaves time for a request to arrive.
func (t token) fresh() bool { return t.value != "" && time.Until(t.expiry) > 5*time.Second }

func newAuthorizer(o *origin, given *Credential) *authorizer {
	return &authorizer{
		origin: o, given: given,
		tokens: map[string]token{}, extra: map[string][]string{}, basics: map[string]string{},
	}
}

func (a *authorizer) credential(ctx context.Context, repo string) (Credential, error) {
	if a.given != nil {
		return *a.given, nil
	}
	if a.askFor != nil {
		if cred, err := a.askFor(ctx); err != nil || !cred.empty() {
			return cred, err
		}
	}
	cred, err := a.origin.conf.credential(ctx, a.origin.name, repo)
	if err != nil || !cred.empty() {
		return cred, err
	}
	login, err := a.cloud.Login(ctx, a.origin.name)
	return Credential{Username: login.Username, Password: login.Password, IdentityToken: login.IdentityToken}, err
}

// header is the Authorization of a request, "" before the registry has asked for one.
func (a *authorizer) header(ctx context.Context, to access) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.scheme {
	case "basic":
		return a.basic(ctx, to.repo)
	case "bearer":
		key := to.key()
		if t := a.tokens[key]; t.fresh() {
			return "Bearer " + t.value, nil
		}
		t, err := a.ask(ctx, to)
		if err != nil {
			return "", err
		}
		a.tokens[key] = t
		return "Bearer " + t.value, nil
	}
	return "", nil
}

// wasChallenged reports whether the origin has asked for an Authorization.
func (a *authorizer) wasChallenged() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.scheme != ""
}

// key names an access among others.
func (to access) key() string {
	scopes := slices.Clone(to.scopes)
	slices.Sort(scopes)
	return to.repo + " " + strings.Join(scopes, " ")
}

// challenged takes in a refusal of a request that had the given Authorization, and reports whether to try again.
func (a *authorizer) challenged(ctx context.Context, to access, refused string, h http.Header) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range parseChallenges(h.Values("WWW-Authenticate")) {
		switch c.scheme {
		case "bearer":
			return true, a.useBearer(to, refused, c)
		case "basic":
			a.scheme = "basic"
			header, err := a.basic(ctx, to.repo)
			return header != "" && header != refused, err
		}
	}
	return false, nil
}

// basic is the Authorization that the repository's credential makes, "" if there is none. The caller holds a.mu.
func (a *authorizer) basic(ctx context.Context, repo string) (string, error) {
	if header, ok := a.basics[repo]; ok {
		return header, nil
	}
	cred, err := a.credential(ctx, repo)
	if err != nil {
		return "", err
	}
	header := ""
	switch {
	case cred.RegistryToken != "":
		header = "Bearer " + cred.RegistryToken
	case cred.Username != "" || cred.Password != "":
		header = basicAuth(cred)
	}
	a.basics[repo] = header
	return header, nil
}

func basicAuth(c Credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// useBearer remembers where tokens are had; the next header asks there. A token that was just refused is forgotten.
func (a *authorizer) useBearer(to access, refused string, c challenge) error {
	realm, err := url.Parse(c.params["realm"])
	if err != nil || realm.Host == "" {
		return fmt.Errorf("%s: %w: its challenge names no token service", a.origin.name, web.ErrRefused)
	}
	home := &url.URL{Scheme: a.origin.currentScheme(), Host: a.origin.host}
	if err := a.origin.client.Allow(home, realm); err != nil {
		return err
	}
	a.scheme, a.realm, a.service = "bearer", realm, c.params["service"]
	key := to.key()
	if refused == "Bearer "+a.tokens[key].value {
		delete(a.tokens, key)
	}
	for _, s := range strings.Fields(c.params["scope"]) {
		if !covered(s, to.scopes) && !slices.Contains(a.extra[key], s) && len(a.extra[key]) < 10 {
			a.extra[key] = append(a.extra[key], s)
		}
	}
	return nil
}

// covered reports whether a scope such as repository:x:pull is part of a wider one that is asked for anyway.
func covered(scope string, wider []string) bool {
	if slices.Contains(wider, scope) {
		return true
	}
	i := strings.LastIndexByte(scope, ':')
	if i < 0 {
		return false
	}
	for _, w := range wider {
		j := strings.LastIndexByte(w, ':')
		if j < 0 || w[:j] != scope[:i] {
			continue
		}
		have := strings.Split(w[j+1:], ",")
		if !slices.ContainsFunc(strings.Split(scope[i+1:], ","), func(s string) bool { return !slices.Contains(have, s) }) {
			return true
		}
	}
	return false
}

// trusted reports whether the realm may see the registry's credentials: it is the registry itself, or a place that the
// registry has declared and that nobody on the way can be in the stead of.
func (a *authorizer) trusted() error {
	if a.origin.owns(a.realm) || a.realm.Scheme == "https" {
		return nil
	}
	return fmt.Errorf("%s wants its password sent to %s://%s, another place without https, which is %w",
		a.origin.name, a.realm.Scheme, a.realm.Host, web.ErrRefused)
}

var errNoToken = fmt.Errorf("the answer of the token service, which has no token, is %w", web.ErrRefused)

// parseChallenges reads WWW-Authenticate headers (RFC 9110, 11.6.1). What it cannot read it leaves out.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		p := &challengeParser{s: h}
		for {
			c, ok := p.next()
			if !ok {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

type challengeParser struct {
	s      string
	scheme string // read already, while looking for parameters
}

func (p *challengeParser) next() (challenge, bool) {
	c := challenge{scheme: strings.ToLower(p.scheme), params: map[string]string{}}
	p.scheme = ""
	if c.scheme == "" {
		c.scheme = strings.ToLower(p.word())
	}
	if c.scheme == "" {
		return c, false
	}
	for {
		p.skip(" \t,")
		name := p.word()
		if name == "" {
			return c, true
		}
		rest := strings.TrimLeft(p.s, " \t")
		if !strings.HasPrefix(rest, "=") {
			p.scheme = name
			return c, true
		}
		p.s = rest[1:]
		p.skip(" \t")
		c.params[strings.ToLower(name)] = p.value()
	}
}

func (p *challengeParser) skip(chars string) { p.s = strings.TrimLeft(p.s, chars) }

// word takes a token (RFC 9110, 5.6.2).
func (p *challengeParser) word() string {
	p.skip(" \t,")
	i := strings.IndexFunc(p.s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if i < 0 {
		i = len(p.s)
	}
	w := p.s[:i]
	p.s = p.s[i:]
	return w
}

func (p *challengeParser) value() string {
	if !strings.HasPrefix(p.s, `"`) {
		i := strings.IndexAny(p.s, " \t,")
		if i < 0 {
			i = len(p.s)
		}
		v := p.s[:i]
		p.s = p.s[i:]
		return v
	}
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.s = p.s[i+1:]
			return b.String()
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	p.s = ""
	return b.String()
}
