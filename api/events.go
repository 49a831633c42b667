package api

import (
	"encoding/json"
	"net/http"

	"github.com/forge-build/forge"
)

// eventRoutes are about what happens.
func eventRoutes() []route {
	return []route{{method: http.MethodGet, pattern: "/events", do: events}}
}

// events shows what happens until the client is gone or the time is over. The head is sent at once: clients wait for it before they do
// something that they want to hear of.
func events(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	q, err := forge.ParseEventQuery(c.query.Get("since"), c.query.Get("until"), filters)
	if err != nil {
		return invalid(err)
	}
	c.begin(http.StatusOK, "application/json")
	if err := c.flush(); err != nil {
		return err
	}
	return c.home.Events(c.ctx(), q, func(m forge.EventMessage) error {
		raw, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if _, err := c.w.Write(append(raw, '\n')); err != nil {
			return err
		}
		return c.flush()
	})
}
