package api

import (
	"net/http"
	"strings"

	"github.com/forge-build/forge"
)

// systemRoutes are about the server itself.
func systemRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/_ping", do: ping},
		{method: http.MethodHead, pattern: "/_ping", do: ping},
		{method: http.MethodGet, pattern: "/version", do: version},
		{method: http.MethodGet, pattern: "/info", do: info},
		{method: http.MethodGet, pattern: "/plugins", do: func(c *call) error { return c.reply(http.StatusOK, []struct{}{}) }},
	}
}

// ping says that the server is there, and what it can do.
func ping(c *call) error {
	h := c.w.Header()
	h.Set("Builder-Version", "2") // BuildKit's, which clients use where they have its plugin
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	c.begun = true
	if c.r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := c.w.Write([]byte("OK"))
	return err
}

// version says which versions of what there are.
func version(c *call) error {
	v := forge.EngineVersion(c.server.options.Version)
	engine := &v.Components[0]
	self := *engine
	self.Name, self.Details = "forge", nil
	v.Version, engine.Version = EngineVersion, EngineVersion
	v.ApiVersion, v.MinAPIVersion = announced.String(), oldest.String()
	engine.Details["ApiVersion"], engine.Details["MinAPIVersion"] = v.ApiVersion, v.MinAPIVersion
	engine.Details["BuildTime"], engine.Details["Experimental"] = v.BuildTime, "false"
	v.Components = append(v.Components, self)
	return c.reply(http.StatusOK, v)
}

// info says how the engine works here.
func info(c *call) error {
	fields, err := c.home.DockerInfo(c.ctx())
	if err != nil {
		return err
	}
	fields["ServerVersion"] = EngineVersion
	return c.reply(http.StatusOK, fields)
}

// swarmRoutes refuse what only a swarm has, as an engine does that is in none.
func swarmRoutes() (all []route) {
	for _, path := range []string{"/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			all = append(all, route{method: method, pattern: path, do: noSwarm}, route{method: method, pattern: path + "/{name...}", do: noSwarm})
		}
	}
	return all
}

func noSwarm(c *call) error {
	text := "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
	if strings.HasPrefix(c.name, "init") || strings.HasPrefix(c.name, "join") {
		text = "forge is no swarm, and cannot be made one: it runs containers on this machine only"
	}
	return &statusError{code: http.StatusServiceUnavailable, text: text}
}
