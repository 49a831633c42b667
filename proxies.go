package forge

import (
	"maps"
	"slices"
	"strings"

	"github.com/forge-build/forge/registry"
)

// withProxies adds to a build's arguments the proxies of docker's config.json. What the caller gives, in either case of
// letters, goes before. As arguments they reach RUN without being in a key or a history.
func withProxies(args map[string]string) (map[string]string, error) {
	proxies, err := registry.ReadProxies()
	if err != nil {
		return nil, err
	}
	all := maps.Clone(args)
	for name, value := range proxies {
		if slices.ContainsFunc(slices.Collect(maps.Keys(args)), func(own string) bool { return strings.EqualFold(own, name) }) {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = value
	}
	return all, nil
}

// proxyEnv lists the proxies of docker's config.json, as K=V, that env says nothing of.
func proxyEnv(env []string) ([]string, error) {
	proxies, err := registry.ReadProxies()
	if err != nil {
		return nil, err
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		delete(proxies, name)
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		list = append(list, name+"="+proxies[name])
	}
	return list, nil
}
