package api

import (
	"net/http"
	"slices"
	"strings"
)

// A handler answers a call. An error of it is told to the client, unless the head of the answer is sent already.
type handler func(*call) error

// A route says who answers the requests of a method and a path.
type route struct {
	method   string
	pattern  string // "/containers/{name}/json"; {name...} is several segments, as names of images have
	do       handler
	segments []string
}

// route finds the handler of the call, and what the path names; nil if there is none. A HEAD is a GET where no route of its own is.
func (c *call) route(path string) handler {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, method := range slices.Compact([]string{c.r.Method, strings.Replace(c.r.Method, http.MethodHead, http.MethodGet, 1)}) {
		for _, r := range c.server.routes {
			if r.method == method && c.matches(r.segments, segments) {
				return r.do
			}
		}
	}
	return nil
}

// matches reports whether a path is one of a pattern's, and notes what its name stands for.
func (c *call) matches(pattern, path []string) bool {
	name := ""
	for i, p := range pattern {
		if !strings.HasPrefix(p, "{") {
			if len(path) == 0 || path[0] != p {
				return false
			}
			path = path[1:]
			continue
		}
		take := 1
		if p == "{name...}" {
			take = len(path) - (len(pattern) - i - 1)
		}
		if take < 1 || take > len(path) {
			return false
		}
		if name = strings.Join(path[:take], "/"); name == "" {
			return false
		}
		path = path[take:]
	}
	if len(path) > 0 {
		return false
	}
	c.name = name
	return true
}
