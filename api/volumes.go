package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/forge-build/forge"
)

// volumeRoutes are about volumes.
func volumeRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/volumes", do: listVolumes},
		{method: http.MethodPost, pattern: "/volumes/create", do: createVolume},
		{method: http.MethodPost, pattern: "/volumes/prune", do: pruneVolumes},
		{method: http.MethodGet, pattern: "/volumes/{name...}", do: inspectVolume},
		{method: http.MethodDelete, pattern: "/volumes/{name...}", do: removeVolume},
	}
}

func listVolumes(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	list, err := c.home.Volumes(filters)
	if err != nil {
		return err
	}
	if list == nil {
		list = []forge.VolumeInfo{}
	}
	return c.reply(http.StatusOK, map[string]any{"Volumes": list, "Warnings": nil})
}

func inspectVolume(c *call) error {
	v, err := c.home.Volume(c.name)
	if err != nil {
		return noVolume(c.name, err)
	}
	return c.reply(http.StatusOK, v)
}

// noVolume says in docker's words that a volume is not there.
func noVolume(name string, err error) error {
	if is[*forge.NoVolumeError](err) {
		return notFound(fmt.Errorf("get %s: no such volume", name))
	}
	return err
}

func createVolume(c *call) error {
	var body struct {
		Name, Driver       string
		DriverOpts, Labels map[string]string
		ClusterVolumeSpec  *struct{}
	}
	if err := c.read(&body, bodyRequired); err != nil {
		return err
	}
	if body.ClusterVolumeSpec != nil {
		return invalid(errors.New("a volume of a cluster cannot be made: forge is no swarm"))
	}
	if body.Driver != "" && body.Driver != "local" {
		return notFound(fmt.Errorf("create %s: error looking up volume plugin %s: plugin %q not found", body.Name, body.Driver, body.Driver))
	}
	name, err := c.home.CreateVolume(c.ctx(), forge.VolumeOptions{
		Name: body.Name, Driver: body.Driver, Labels: assignments(body.Labels), Options: assignments(body.DriverOpts),
	})
	if err != nil {
		return err
	}
	v, err := c.home.Volume(name)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, v)
}

func removeVolume(c *call) error {
	err := c.home.RemoveVolume(c.ctx(), c.name)
	if is[*forge.NoVolumeError](err) && c.flag("force") {
		err = nil
	}
	if err != nil {
		return noVolume(c.name, err)
	}
	return c.done()
}

// anonymousSince is the first version in which a prune leaves volumes that have a name.
const anonymousSince apiVersion = 42

func pruneVolumes(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	o := forge.PruneVolumesOptions{All: c.version < anonymousSince, Filters: filters}
	if err := o.Check(); err != nil {
		return err
	}
	removed, bytes, err := c.home.PruneVolumes(c.ctx(), o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"VolumesDeleted": removed, "SpaceReclaimed": bytes})
}
