package forge

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network"
)

// A container that is linked to another one knows it by an alias that nobody else knows. In networks that were created the name server answers
// for the alias, whenever there is such a container; in the default one, which has none, a line of /etc/hosts does, made at the start of the
// container that is linked: the other has to run by then.

// optionIfname is the option of docker's driver that names an endpoint's interface in the container.
const optionIfname = "com.docker.network.endpoint.ifname"

// parseLink reads CONTAINER[:ALIAS], and what docker's inspect has shown: /CONTAINER:/OTHER/ALIAS. The errors are docker's.
func parseLink(text string) (l network.Link, err error) {
	if text == "" {
		return l, words.Invalid("empty string specified for links")
	}
	name, alias, given := strings.Cut(text, ":")
	if strings.Contains(alias, ":") {
		return l, words.Invalid("bad format for links: %s", text)
	}
	if !given {
		alias = name
	}
	if strings.HasPrefix(name, "/") {
		name, alias = name[1:], path.Base(alias)
	}
	for _, s := range []string{name, alias} { // which become words of a line
		if len(s) > 253 || !regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*$`).MatchString(s) {
			return l, words.Invalid("bad format for links: %s: a name has letters, digits, and _, . and -", text)
		}
	}
	return network.Link{Container: name, Alias: alias}, nil
}

// parseLinks reads links.
func parseLinks(list []string) (links []network.Link, err error) {
	for _, text := range list {
		l, err := parseLink(text)
		if err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	return links, nil
}

// checkLinks refuses links of a container whose network cannot have them, in docker's words.
func checkLinks(mode string, links []string) error {
	rootless, why := runtime.Rootless()
	switch {
	case len(links) == 0:
		return nil
	case strings.HasPrefix(mode, inContainer):
		return words.Invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case mode == "host":
		return words.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	case mode == "none":
		return words.Invalid("conflicting options: a container without a network can't be used with links: choose another network, or none of the links")
	case rootless:
		return fmt.Errorf("links need root (%s): each container of an ordinary user has a network of its own", why)
	}
	return nil
}

// defaultLinks are links in the default network, by IDs instead of names: the containers have to be there, and may have other names later.
func (h *Home) defaultLinks(list []string) (ids []string, err error) {
	links, err := parseLinks(list)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		child, err := h.findContainer(l.Container)
		if _, missing := errors.AsType[*state.NotFoundError](err); missing {
			// Not the error itself, by which clients would take the image for what is missing.
			return nil, words.Invalid("could not get container for %s: %v", l.Container, err)
		}
		if err != nil {
			return nil, err
		}
		if child.Config.Network == "host" {
			return nil, checkLinks("host", list)
		}
		ids = append(ids, child.ID+":"+l.Alias)
	}
	return ids, nil
}

// addHosts adds the lines of /etc/hosts that the container has of others.
func (k *keeper) addHosts(options *container.Options) error {
	shared, err := k.home.sharedHosts(k.record.Config.Network)
	if err != nil {
		return err
	}
	k.linked, err = k.home.linkedHosts(k.record)
	options.Hosts = slices.Concat(shared, k.linked, options.Hosts)
	return err
}

// linkedHosts are the names and addresses of the containers that one is linked to in the default network, which have to run.
func (h *Home) linkedHosts(r *containerRecord) (hosts []container.Host, err error) {
	for _, a := range r.Config.Networks {
		if a.Network != network.DefaultName {
			continue
		}
		links, err := parseLinks(a.Links)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			more, err := h.linkedHost(r, l)
			if err != nil {
				return nil, err
			}
			hosts = append(hosts, more...)
		}
	}
	return hosts, nil
}

func (h *Home) linkedHost(r *containerRecord, l network.Link) (hosts []container.Host, err error) {
	child, run, status, err := h.findRun(l.Container)
	if _, missing := errors.AsType[*state.NotFoundError](err); missing {
		return nil, words.Refused("Cannot link to a removed container: %s AS /%s/%s: make /%s anew, with a link to another", l.Container, r.Name, l.Alias, r.Name)
	}
	if err != nil {
		return nil, err
	}
	if !status.Alive() {
		return nil, words.Refused("Cannot link to a non running container: /%s AS /%s/%s", child.Name, r.Name, l.Alias)
	}
	e, ok := run.Networks[network.DefaultName]
	if !ok {
		return nil, words.Refused("Cannot link to /%s, as it does not belong to the default network", child.Name)
	}
	names := []string{l.Alias, cmp.Or(child.Config.Hostname, child.ID[:12])}
	if child.Name != l.Alias {
		names = append(names, child.Name)
	}
	for _, text := range []string{e.Address, e.Address6} {
		if p, err := netip.ParsePrefix(text); err == nil {
			hosts = append(hosts, container.Host{Name: strings.Join(names, " "), IP: p.Addr()})
		}
	}
	return hosts, nil
}

// inspectLinks are the links in the default network as docker's inspect has them.
func (h *Home) inspectLinks(r *containerRecord) (list []string) {
	for _, a := range r.Config.Networks {
		links, err := parseLinks(a.Links)
		if err != nil || a.Network != network.DefaultName {
			continue
		}
		for _, l := range links {
			name := l.Container[:min(12, len(l.Container))]
			if child, err := h.findContainer(l.Container); err == nil {
				name = child.Name
			}
			list = append(list, "/"+name+":/"+r.Name+"/"+l.Alias)
		}
	}
	return list
}

// interfaceName is the name that the options of an endpoint give its interface in the container; "" leaves it to us.
func interfaceName(options []string) (name string, err error) {
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if key != optionIfname {
			return "", words.Invalid("the endpoint has the option %s, and the driver bridge has none but %s: leave it out", o, optionIfname)
		}
		taken := slices.Contains([]string{"lo", "all", "default"}, value) // by the kernel
		if taken || !regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,14}$`).MatchString(value) {
			return "", words.Invalid("invalid network interface name %q (%s): it should be such as eth5, of 15 characters at most", value, optionIfname)
		}
		name = value
	}
	return name, nil
}
