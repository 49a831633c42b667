package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/cache/far"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/ci"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
)

// A farCache is what a build shares with other machines.
type farCache struct {
	*remote.Cache
	client  *registry.Client
	targets []farTarget
	end     func() // waits for what was asked ahead
}

// A farTarget is a place that the build leaves what it has done in.
type farTarget struct {
	*remote.Target
	compression CompressionOptions
	of          int // which target has named it
}

// cacheClient is a client of registries that a cache is kept in.
func (o RemoteOptions) cacheClient() *registry.Client {
	return registry.NewClient(registry.Options{
		Credentials: o.Credentials, Ask: o.AskCredential, Helpers: o.CredentialHelpers, Insecure: o.Insecure, Limits: far.Limits(),
	})
}

// openFar opens what a build shares with other machines; nil if it shares nothing. A machine that has built nothing yet asks at once,
// while the build file is read. What one target's places hold, all read.
func (h *Home) openFar(ctx context.Context, targets []*making) (*farCache, error) {
	o := targets[0].BuildOptions
	s := farSettings{
		home: h, options: o, client: o.cacheClient(),
		job: jobOf(os.Getenv, o.Context), places: map[string]*remote.Place{},
	}
	if err := s.keys(); err != nil {
		return nil, err
	}
	for i, t := range targets {
		s.options, s.of = t.BuildOptions, i
		if err := s.choose(ctx, t.pushed(t.tags)); err != nil {
			return nil, err
		}
	}
	if len(s.remote.Read)+len(s.targets) == 0 {
		return nil, nil
	}
	s.remote.Near, s.remote.Memory, s.remote.Events = h.Cache, h.remotes, o.Events
	for _, t := range s.targets {
		s.remote.Write = append(s.remote.Write, t.Target)
	}
	shared := &farCache{Cache: remote.New(s.remote), client: s.client, targets: s.targets, end: func() {}}
	if h.Cache.Fresh() && !o.NoCache {
		shared.end = shared.Prefetch(ctx)
	}
	return shared, nil
}

// Close waits for what was asked ahead, and closes connections.
func (f *farCache) Close() error {
	f.end()
	return f.client.Close()
}

// jobOf is the CI system's job or, for people, the branch that is checked out where the context is.
func jobOf(getenv func(string) string, dir string) ci.Job {
	job := ci.Detect(getenv)
	if job.Provider != "" {
		return job
	}
	job.Branch, job.Default = checkedOut(dir)
	return job
}

// checkedOut reads which branch of the repository around a directory is checked out, and which is the origin's default; "" is not known.
func checkedOut(dir string) (branch, origin string) {
	dir, err := filepath.Abs(dir)
	for ; err == nil; dir = filepath.Dir(dir) {
		git := filepath.Join(dir, ".git")
		if text, err := readShort(git); err == nil { // a worktree's, or a submodule's
			to, ok := strings.CutPrefix(strings.TrimSpace(text), "gitdir: ")
			if !ok {
				return "", ""
			}
			git = below(dir, to)
		}
		if head, err := readShort(filepath.Join(git, "HEAD")); err == nil {
			branch, _ = strings.CutPrefix(strings.TrimSpace(head), "ref: refs/heads/")
			if strings.ContainsAny(branch, " \n") || branch == strings.TrimSpace(head) || branch == ".invalid" {
				branch = "" // a commit, or known to a table of git's
			}
			if text, err := readShort(filepath.Join(git, "commondir")); err == nil {
				git = below(git, strings.TrimSpace(text))
			}
			text, _ := readShort(filepath.Join(git, "refs/remotes/origin/HEAD"))
			origin, _ = strings.CutPrefix(strings.TrimSpace(text), "ref: refs/remotes/origin/")
			return branch, origin
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return "", ""
}

// below is what a path that stands in a directory means.
func below(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// readShort reads a file of at most 4 KiB.
func readShort(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > 4<<10 {
		return "", fmt.Errorf("%s: %w", path, fs.ErrInvalid)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

// pushed are the names that the image is pushed under, and with which compression.
func (o *BuildOptions) pushed(tags []image.Reference) (pushes []farPush) {
	steps, err := o.outputSteps(tags, 0)
	if err != nil {
		return nil // which is told later
	}
	for _, s := range steps {
		if s.Kind != event.Push {
			continue
		}
		c, _ := s.out.compression()
		pushes = append(pushes, farPush{s.tags[0], c})
	}
	return pushes
}

// A farPush is a name that the image is pushed under, and in which form.
type farPush struct {
	ref         image.Reference
	compression CompressionOptions
}

// farSettings gathers what the options say.
type farSettings struct {
	home    *Home
	options BuildOptions
	client  *registry.Client
	job     ci.Job
	places  map[string]*remote.Place // that are open, by what names them
	remote  remote.Options
	targets []farTarget
	of      int // whose options they are, of several targets
}

// keys reads the keys that sign, and those that are believed.
func (s *farSettings) keys() error {
	if file := s.options.Key; file != "" {
		text, err := readShort(file)
		if err == nil {
			s.remote.Key, err = remote.ReadSigner([]byte(text))
		}
		if err != nil {
			return fmt.Errorf("--cache-key %s: %w", file, err)
		}
	}
	if file := s.options.Trust; file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			s.remote.Trust, err = remote.ReadTrust(text)
		}
		if err != nil {
			return fmt.Errorf("--cache-trust %s: %w", file, err)
		}
		s.remote.Trust.With(s.remote.Key)
	}
	return nil
}

// choose finds the scopes that are read and written.
func (s *farSettings) choose(ctx context.Context, pushes []farPush) error {
	o := s.options
	to := o.To
	if o.Args["BUILDKIT_INLINE_CACHE"] == "1" {
		to = append(to, CacheSpec{Type: "inline", Attrs: map[string]string{}})
	}
	switch {
	case o.Cache == "none":
	case o.Cache != "":
		var c CompressionOptions
		if len(pushes) > 0 {
			c = pushes[0].compression
		}
		if err := s.repository(ctx, o.Cache, c); err != nil {
			return fmt.Errorf("--cache %s: %w", o.Cache, err)
		}
	case len(o.From)+len(to) == 0 && len(pushes) > 0:
		ref := pushes[0].ref
		if err := s.repository(ctx, ref.Domain+"/"+ref.Path, pushes[0].compression); err != nil {
			return err
		}
	}
	for _, spec := range o.From {
		if err := s.from(ctx, spec); err != nil {
			return fmt.Errorf("--cache-from: %w", err)
		}
	}
	for _, spec := range to {
		if err := s.to(ctx, spec, pushes); err != nil {
			return fmt.Errorf("--cache-to: %w", err)
		}
	}
	return nil
}

// repository reads and writes the branch's scopes of a repository: NAME[:SCOPE].
func (s *farSettings) repository(ctx context.Context, name string, c CompressionOptions) error {
	spec, asked := cacheNamed(name)
	asked = cmp.Or(s.options.Scope, asked)
	if spec.Type == "reapi" { // where layers are tars, as workers read them
		c = CompressionOptions{Compression: string(image.Uncompressed)}
	}
	place, err := s.open(ctx, spec)
	if errors.Is(err, web.ErrOffline) {
		s.without(spec, err)
		return nil
	}
	if err != nil {
		return err
	}
	write, read := s.job.Scopes(asked)
	for _, scope := range read {
		s.read(scopeOf(place, scope))
	}
	if !s.options.ReadOnly {
		s.targets = append(s.targets, farTarget{&remote.Target{Scope: scopeOf(place, write)}, c, s.of})
	}
	return nil
}

// read adds scopes that are read, unless another target has added them.
func (s *farSettings) read(scopes ...*remote.Scope) {
	for _, scope := range scopes {
		if !slices.ContainsFunc(s.remote.Read, func(r *remote.Scope) bool {
			return r.Place == scope.Place && r.Name == scope.Name && slices.Equal(r.Tags, scope.Tags)
		}) {
			s.remote.Read = append(s.remote.Read, scope)
		}
	}
}

func scopeOf(place *remote.Place, name string) *remote.Scope {
	return &remote.Scope{Place: place, Name: name, Tags: []string{remote.ScopeTag(name)}}
}

// open opens a place, once.
func (s *farSettings) open(ctx context.Context, spec CacheSpec) (*remote.Place, error) {
	if s.options.Offline && spec.Type != "local" {
		return nil, web.ErrOffline
	}
	key := fmt.Sprint(spec)
	if p := s.places[key]; p != nil {
		return p, nil
	}
	if client := s.options.Client; spec.Type == "local" && client != nil && client.Content != nil {
		p, err := s.lentPlace(ctx, spec)
		if err == nil {
			s.places[key] = p
		}
		return p, err
	}
	client := s.client
	if spec.Is("registry.insecure") && !s.options.Insecure {
		o := s.options.RemoteOptions
		o.Insecure = true
		client = o.cacheClient()
	}
	p, err := s.opener(client).Open(spec)
	if err == nil {
		s.places[key] = p
	}
	return p, err
}

// opener opens places, those in registries with a client.
func (s *farSettings) opener(client *registry.Client) *far.Opener {
	return &far.Opener{Registries: client, Staging: s.home.staging, Server: func(address string) (*reapi.Client, error) {
		return s.home.server(address, s.options.Servers)
	}}
}

func (s *farSettings) from(ctx context.Context, spec CacheSpec) error {
	if spec.Type == "inline" {
		return errors.New("type inline is for --cache-to; to read it, give the image's name")
	}
	place, err := s.open(ctx, spec)
	if err != nil {
		s.without(spec, err)
		return nil
	}
	s.read(spec.Scopes(place)...)
	return nil
}

// without tells of a place that cannot be opened. One that is not there yet is no fault.
func (s *farSettings) without(spec CacheSpec, err error) {
	kind := event.Warning
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, web.ErrOffline) {
		kind = event.Note
	}
	s.options.Events.Send(event.Event{Kind: kind, Text: fmt.Sprintf("cache of type %s: %v; the build goes on without it", spec.Type, err)})
}

func (s *farSettings) to(ctx context.Context, spec CacheSpec, pushes []farPush) error {
	c, err := compressionOf(spec)
	if err != nil {
		return err
	}
	min := spec.Attrs["mode"] != "max"
	if spec.Type != "inline" {
		place, err := s.open(ctx, spec)
		if err != nil {
			s.without(spec, err)
			return nil
		}
		for _, scope := range spec.Scopes(place) {
			s.targets = append(s.targets, farTarget{&remote.Target{Scope: scope, OnlyImage: min}, c, s.of})
		}
		return nil
	}
	if len(pushes) == 0 {
		s.options.Events.Send(event.Event{
			Kind: event.Warning, Text: "an inline cache lies beside the image in its registry, and this build pushes none: nothing is kept",
		})
	}
	for _, push := range pushes {
		place, err := s.open(ctx, CacheSpec{Type: "registry", Attrs: map[string]string{"ref": push.ref.String()}})
		if err != nil {
			return err
		}
		scope := &remote.Scope{Place: place, Name: push.ref.Tag, Tags: []string{far.Beside(push.ref.Tag)}}
		s.targets = append(s.targets, farTarget{&remote.Target{Scope: scope, OnlyImage: true}, push.compression, s.of})
	}
	return nil
}
