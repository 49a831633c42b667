// Package cloud knows who a job is to the registry of the cloud or of the CI system that it runs in, without a login: what the helpers
// of Amazon, Google, Azure and GitLab say that kaniko has built in.
//
// A helper is asked for hosts of its own only. One that has nothing to go by says nothing. One that has something, which is refused, is an
// error: without it a push would fail later, and less clearly. Nothing is kept on disk, and no message has a secret in it.
//
// The requests are written here: the libraries of three clouds are bigger than forge (docs/decisions/).
package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/internal/web"
)

// A Login is what a registry knows a job by; the zero Login is nobody. Its String is safe to show.
type Login struct {
	Username, Password string
	IdentityToken      string // exchanged for access tokens; else ""
	until              time.Time
}

// String hides what must not be shown.
func (l Login) String() string { return "login of " + l.Username }

// GoString hides what must not be shown, from %#v too.
func (l Login) GoString() string { return l.String() }

// Helpers are some of the helpers, in the order in which they are asked. Safe for concurrent use.
type Helpers struct {
	names  []string
	env    func(string) string
	limits web.Limits
	acr    func(host string) string // address of the registry of Azure that speaks for host

	mu   sync.Mutex // guards what is below, and is held while somebody is asked: others would ask for the same
	kept map[string]Login
}

// New returns the helpers of these names. They ask nobody before a registry wants to know. env looks up variables.
func New(names []string, env func(string) string, limits web.Limits) *Helpers {
	return &Helpers{
		names: names, env: env, limits: limits, acr: func(host string) string { return "https://" + host }, kept: map[string]Login{},
	}
}

// A helper finds the login of a host; the zero Login if it has nothing to go by.
type helper struct {
	name    string
	matches func(host string) bool
	login   func(ctx context.Context, host string) (Login, error)
}

// all are the helpers that there are, in kaniko's order.
func (h *Helpers) all() []helper {
	return []helper{
		{"env", func(string) bool { return true }, h.envLogin},
		{"google", isGoogle, h.googleLogin},
		{"ecr", func(host string) bool { _, ok := parseECR(host); return ok }, h.ecrLogin},
		{"acr", isACR, h.acrLogin},
		{"gitlab", h.isGitLab, h.gitlabLogin},
	}
}

// Check reports an error if there is no helper of one of these names.
func Check(names []string) error {
	all := New(nil, nil, web.Limits{}).all()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(h helper) bool { return h.name == name }) {
			return fmt.Errorf("credential helper %q: is none of env, google, ecr, acr and gitlab; if it is a program docker-credential-%s, "+
				"name it in config.json, by its registry: {\"credHelpers\": {\"HOST\": %q}}", name, name, name)
		}
	}
	return nil
}

// How long an answer is used: a login for a little less than it is good for; that there is none for a moment, since a metadata server
// may start after the job.
const (
	margin  = time.Minute
	nothing = time.Minute
)

// Login asks the helpers that are for this host[:port] until one knows who the job is.
func (h *Helpers) Login(ctx context.Context, host string) (Login, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host = strings.ToLower(host)
	for _, name := range h.names {
		for _, helper := range h.all() {
			if helper.name != name || !helper.matches(host) {
				continue
			}
			login, err := h.ask(ctx, helper, host)
			if err != nil || login.Username != "" {
				return login, err
			}
		}
	}
	return Login{}, nil
}

// ask is a helper's login, asked for or kept. The caller holds mu.
func (h *Helpers) ask(ctx context.Context, helper helper, host string) (Login, error) {
	key := helper.name + " " + host
	if login, ok := h.kept[key]; ok && time.Until(login.until) > 0 {
		return login, nil
	}
	login, err := helper.login(ctx, host)
	if err != nil {
		var refused *refusal
		if errors.As(err, &refused) {
			refused.helper = helper.name
		}
		return Login{}, err
	}
	if ctx.Err() != nil {
		return Login{}, context.Cause(ctx)
	}
	if login.Username == "" {
		login.until = time.Now().Add(nothing)
	} else {
		login.until = login.until.Add(-margin)
	}
	h.kept[key] = login
	return login, nil
}

// A refusal is the error of a helper that has something to go by. What it is caused by is text only: whoever asks a registry would take a
// connection that broke for that of the registry, and try again, which was done.
type refusal struct {
	helper string
	by     string // the variable, or the place, that it goes by
	cause  string
	next   string // what to do
}

func (e *refusal) Error() string {
	return fmt.Sprintf("credential helper %s: %s: %s; %s, or leave %s out of --credential-helpers", e.helper, e.by, e.cause, e.next, e.helper)
}

// refuse makes a refusal of err. The end of ctx stays what it is.
func refuse(ctx context.Context, by string, err error, next string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &refusal{by: by, cause: err.Error(), next: next}
}
