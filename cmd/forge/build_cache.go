package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/forge-build/forge"
)

// cacheFlags are forge.CacheOptions as flags.
type cacheFlags struct {
	Cache       string   `help:"Repository that keeps what builds have done, for other machines; none for no such place. It is the image's own if that is pushed." env:"FORGE_CACHE" placeholder:"REPOSITORY[:SCOPE]"`
	CacheScope  string   `help:"Name under which it is kept; the branch's if not given." placeholder:"SCOPE"`
	CacheFrom   []string `sep:"none" help:"Read what builds have done, as docker does: a name, or type=registry|local|gha|s3,…" placeholder:"SOURCE"`
	CacheTo     []string `sep:"none" help:"Keep what this build has done: type=registry|local|inline|gha|s3[,mode=max],…" placeholder:"PLACE"`
	CacheKey    string   `help:"Sign what is kept with an ed25519 key, PEM." type:"path" env:"FORGE_CACHE_KEY" placeholder:"FILE"`
	CacheTrust  string   `help:"Believe only what one of these public keys, PEM, has signed." type:"path" env:"FORGE_CACHE_TRUST" placeholder:"FILE"`
	VerifyCache string   `help:"Do this part of the steps that a cache answers again, and compare." placeholder:"PERCENT"`
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
