package api

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// admits refuses what a browser sends on behalf of a page: the API is root's, and no page may use it. A page says its origin, or has had
// its own name resolved to this machine; programs send no origin, or one of their own making, and call the host by an address or such a name.
func (o *Options) admits(r *http.Request) error {
	if r.Header.Get("Origin") != "" && !ownOrigin(r) || r.Header.Get("Sec-Fetch-Site") != "" {
		return &statusError{code: http.StatusForbidden, text: "requests of web pages are refused: they name an Origin"}
	}
	host := strings.ToLower(r.Host)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	local := !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".sock")
	if err != nil && !local && !slices.Contains(o.Hosts, host) {
		return &statusError{code: http.StatusForbidden, text: "host " + r.Host + " is none that the API is served for"}
	}
	return nil
}

// errLink is why a path is no place for a socket.
var errLink = errors.New("is a symbolic link: a socket is not made through one, since whoever made the link could lead it elsewhere")
