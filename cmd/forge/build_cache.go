package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
	"github.com/forge-build/forge/event"
)

// cacheFlags are forge.CacheOptions as flags.
type cacheFlags struct {
	Cache          string        `help:"Repository, or grpc[s]:// server of the Remote Execution API, that keeps what builds have done, for other machines; none for no such place. It is the image's own if that is pushed." env:"FORGE_CACHE" placeholder:"REPOSITORY[:SCOPE]"`
	CacheScope     string        `help:"Name under which it is kept; the branch's if not given." placeholder:"SCOPE"`
	CacheFrom      []string      `sep:"none" help:"Read what builds have done, as docker does: a name, or type=registry|local|gha|s3|reapi,…" placeholder:"SOURCE"`
	CacheTo        []string      `sep:"none" help:"Keep what this build has done: type=registry|local|inline|gha|s3|reapi[,mode=max],…" placeholder:"PLACE"`
	CacheKey       string        `help:"Sign what is kept with an ed25519 key, PEM." type:"path" env:"FORGE_CACHE_KEY" placeholder:"FILE"`
	CacheTrust     string        `help:"Believe only what one of these public keys, PEM, has signed." type:"path" env:"FORGE_CACHE_TRUST" placeholder:"FILE"`
	CacheMountKey  []string      `sep:"none" help:"Prefer cache mounts that were left with the same of these files of the context, such as go.sum." placeholder:"PATTERN"`
	CacheMountSize string        `help:"How much of one cache mount is kept in the cache's place, at most; 0 keeps and fetches none." default:"2GB" placeholder:"SIZE"`
	CacheMountTime time.Duration `help:"How long keeping cache mounts may take after the build." default:"1m" placeholder:"TIME"`

	VerifyCache string `help:"Do this part of the steps that a cache answers again, and compare." placeholder:"PERCENT"`
}

// options turns flags into what forge.Build wants.
func (c *cacheFlags) options() (o forge.CacheOptions, err error) {
	o = forge.CacheOptions{Cache: c.Cache, Scope: c.CacheScope, Key: c.CacheKey, Trust: c.CacheTrust}
	for _, text := range c.CacheFrom {
		spec, err := forge.ParseCacheFrom(text)
		if err != nil {
			return o, err
		}
		o.From = append(o.From, spec)
	}
	for _, text := range c.CacheTo {
		spec, err := forge.ParseCacheTo(text)
		if err != nil {
			return o, err
		}
		o.To = append(o.To, spec)
	}
	if c.VerifyCache != "" {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(c.VerifyCache, "%"), 64)
		if err != nil || !(percent >= 0 && percent <= 100) {
			return o, fmt.Errorf("--verify-cache %q: must be from 0%% to 100%%", c.VerifyCache)
		}
		o.Audit = percent / 100
	}
	return o, nil
}

// mounts turns flags into what forge.Build wants.
func (c *cacheFlags) mounts() (o forge.MountOptions, err error) {
	o = forge.MountOptions{Keys: c.CacheMountKey, Time: c.CacheMountTime}
	if o.Limit, err = units.FromHumanSize(c.CacheMountSize); err != nil {
		return o, fmt.Errorf("--cache-mount-size: %w", err)
	}
	if o.Limit == 0 {
		o.Limit = -1
	}
	if o.Time <= 0 {
		return o, fmt.Errorf("--cache-mount-time %s: must be more than nothing", o.Time)
	}
	return o, nil
}

// afterwards shows what is done when the build has been shown: a line each.
func (c *buildCmd) afterwards(s *session) event.Sink {
	return func(e event.Event) {
		switch {
		case e.Kind == event.Warning:
			_, _ = fmt.Fprintln(s.err, "forge: warning:", ui.Line(e.Text))
		case e.Kind == event.Note && !c.Quiet && c.Progress != "quiet":
			_, _ = fmt.Fprintln(s.err, "forge:", ui.Line(e.Text))
		}
	}
}
