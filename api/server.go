// Package api serves Docker's Engine API, so that docker, compose, buildx, testcontainers and whoever speaks it work on forge.
//
// It holds no state: each request opens the store, does what a command of forge does, and closes it again. So it may be killed at
// any time, and several may serve one store. A handler translates between docker's JSON and package forge, one file a noun;
// what containers and images are is known there, not here. docs/guide/api.md lists the endpoints.
package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/api/buildkit"
)

// Options say what to serve.
type Options struct {
	Store   forge.Options // the store; opened anew for each request
	Version string        // of forge, for people
	Hosts   []string      // names that clients may call this machine by, besides addresses and names without a dot
}

// A Server answers requests of Docker's Engine API. Safe for concurrent use.
type Server struct {
	options  Options
	routes   []route
	build    *buildkit.Service
	activity activity
	boarding boarding
	children children
	ready    ready
}

// New returns a server of a store.
func New(o Options) *Server {
	s := &Server{options: o}
	s.build = s.buildKit()
	for _, noun := range [][]route{
		systemRoutes(), swarmRoutes(), imageRoutes(), authRoutes(), networkRoutes(), volumeRoutes(), eventRoutes(), usageRoutes(), buildRoutes(),
		containerRoutes(), streamRoutes(), execRoutes(), archiveRoutes(), observeRoutes(),
	} {
		for _, r := range noun {
			r.segments = strings.Split(strings.TrimPrefix(r.pattern, "/"), "/")
			s.routes = append(s.routes, r)
		}
	}
	return s
}

// A call is a request that is being answered.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	server  *Server
	home    *forge.Home // the store, open until the answer is complete
	version apiVersion  // that the client speaks
	query   url.Values
	name    string // what {name} of the route stands for
	begun   bool   // the head of the answer is sent: an error can be told in its body only
	socket  bool   // the client speaks WebSocket from here on
}

// ctx ends when the client is gone, or the server is to end.
func (c *call) ctx() context.Context { return c.r.Context() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.activity.begin()
	defer s.activity.end()
	h := w.Header()
	h.Set("Api-Version", announced.String())
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", "Docker/"+EngineVersion+" (linux)")
	if err := s.options.admits(r); err != nil {
		writeError(w, err)
		return
	}
	if isGRPC(r) {
		s.build.ServeHTTP(w, r)
		return
	}
	version, path, err := negotiate(r.URL.Path)
	if err != nil {
		writeError(w, err)
		return
	}
	c := &call{w: w, r: r, server: s, version: version}
	if taken, err := c.upgrade(path); taken {
		if err != nil && !c.begun {
			writeError(w, err)
		}
		return
	}
	do := c.route(path)
	if do == nil {
		writeError(w, notFound(errors.New("page not found")))
		return
	}
	if c.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		writeError(w, invalid(err))
		return
	}
	err = c.withHome(do)
	switch {
	case err != nil && c.begun: // the client is not to take what it has for all
		panic(http.ErrAbortHandler)
	case err != nil:
		writeError(w, err)
	}
}

// withHome opens the store for the time of a call.
func (c *call) withHome(do handler) (err error) {
	o := c.server.options.Store
	o.Command, o.Started, o.Ready = "api", c.server.children.add, c.server.ready.takeForStart
	if c.home, err = forge.Open(c.ctx(), o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.home.Close()) }()
	return do(c)
}
