package api

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/inspect"
)

// imageRoutes are about images that are in the store. Names of images have slashes.
func imageRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/images/json", do: listImages},
		{method: http.MethodGet, pattern: "/images/search", do: searchImages},
		{method: http.MethodGet, pattern: "/images/get", do: saveImages},
		{method: http.MethodPost, pattern: "/images/load", do: loadImages},
		{method: http.MethodPost, pattern: "/images/create", do: createImage},
		{method: http.MethodPost, pattern: "/images/prune", do: pruneImages},
		{method: http.MethodGet, pattern: "/images/{name...}/json", do: inspectImage},
		{method: http.MethodGet, pattern: "/images/{name...}/history", do: imageHistory},
		{method: http.MethodGet, pattern: "/images/{name...}/get", do: saveImages},
		{method: http.MethodPost, pattern: "/images/{name...}/tag", do: tagImage},
		{method: http.MethodPost, pattern: "/images/{name...}/push", do: pushImage},
		{method: http.MethodDelete, pattern: "/images/{name...}", do: removeImage},
		{method: http.MethodGet, pattern: "/distribution/{name...}/json", do: inspectDistribution},
	}
}

func listImages(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	if name := c.query.Get("filter"); name != "" { // as clients of before 1.41 name a repository
		filters = append(filters, "reference="+name)
	}
	list, err := c.home.ImageSummaries(c.ctx(), forge.ImagesOptions{Filters: filters})
	if err != nil && list == nil {
		return err
	}
	if c.flag("shared-size") {
		c.home.ShareSizes(c.ctx(), list)
	}
	for _, v := range list {
		if !c.flag("manifests") || c.version < manifestsSince {
			continue
		}
		if v.Manifests, err = c.home.ImageManifests(c.ctx(), v.Descriptor.Digest.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if list == nil {
		list = []*inspect.ImageSummary{}
	}
	return c.reply(http.StatusOK, list)
}

// manifestsSince is the first version that lists the images of an index.
const manifestsSince apiVersion = 47

func inspectImage(c *call) error {
	platform, err := c.platform()
	if err != nil {
		return err
	}
	v, err := c.home.InspectImage(c.ctx(), c.name, platform)
	if err != nil {
		return err
	}
	if c.flag("manifests") && c.version >= manifestsSince {
		if v.Manifests, err = c.home.ImageManifests(c.ctx(), c.name); err != nil {
			return err
		}
	}
	return c.reply(http.StatusOK, v)
}

// A historyEntry is a step of how an image was made.
type historyEntry struct {
	ID        string `json:"Id"`
	Created   int64
	CreatedBy string
	Tags      []string
	Size      int64
	Comment   string
}

func imageHistory(c *call) error {
	platform, err := c.platform()
	if err != nil {
		return err
	}
	id, steps, err := c.home.History(c.ctx(), c.name, platform)
	if err != nil {
		return err
	}
	i, err := c.home.InspectImage(c.ctx(), c.name, platform)
	if err != nil {
		return err
	}
	list := []historyEntry{}
	for n, step := range steps {
		e := historyEntry{ID: "<missing>", CreatedBy: step.CreatedBy, Size: step.Size, Comment: step.Comment}
		if step.Created != nil {
			e.Created = step.Created.Unix()
		}
		if n == 0 {
			e.ID, e.Tags = id.String(), i.RepoTags
		}
		list = append(list, e)
	}
	return c.reply(http.StatusOK, list)
}

func tagImage(c *call) error {
	name := c.query.Get("repo")
	if name == "" {
		return invalid(errors.New("invalid reference format: repo is not given"))
	}
	if tag := c.query.Get("tag"); tag != "" {
		name += ":" + tag
	}
	if _, err := forge.RegistryOf(name); err != nil {
		return invalid(err)
	}
	if err := c.home.Tag(c.ctx(), c.name, name); err != nil {
		return err
	}
	return c.empty(http.StatusCreated)
}

func removeImage(c *call) error {
	o := forge.RemoveOptions{Force: c.flag("force")}
	for _, text := range c.query["platforms"] {
		p, err := parsePlatform(text)
		if err != nil {
			return err
		}
		o.Platforms = append(o.Platforms, p)
	}
	done, err := c.home.RemoveImage(c.ctx(), c.name, o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, done)
}

func pruneImages(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	o := forge.PruneOptions{Only: forge.PruneImages}
	for _, f := range filters {
		text, ok := strings.CutPrefix(f, "dangling=")
		if !ok {
			o.Filters = append(o.Filters, f)
			continue
		}
		dangling, err := strconv.ParseBool(text)
		if err != nil {
			return invalid(fmt.Errorf("invalid filter 'dangling=%s'", text))
		}
		o.All = o.All || !dangling
	}
	if err := o.Check(); err != nil {
		return invalid(err)
	}
	r, err := c.home.Prune(c.ctx(), o)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"ImagesDeleted": r.Images, "SpaceReclaimed": r.Bytes})
}

func searchImages(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	limit, given, err := c.number("limit")
	if err != nil {
		return err
	}
	if !given || limit == 0 {
		limit = usualFound
	}
	remote, err := c.remote()
	if err != nil {
		return err
	}
	found, err := forge.Search(c.ctx(), c.query.Get("term"), forge.SearchOptions{RemoteOptions: remote, Limit: limit, Filters: filters})
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, f := range found {
		list = append(list, map[string]any{
			"name": f.Name, "description": f.Description, "star_count": f.Stars, "is_official": f.Official, "is_automated": f.Automated,
		})
	}
	return c.reply(http.StatusOK, list)
}

// usualFound is how many repositories a search returns that does not say how many.
const usualFound = 25

// inspectDistribution says what a registry has under a name.
func inspectDistribution(c *call) error {
	remote, err := c.remote()
	if err != nil {
		return err
	}
	d, platforms, err := forge.DescribeRemote(c.ctx(), c.name, remote)
	if err != nil {
		return registryError(err)
	}
	return c.reply(http.StatusOK, map[string]any{
		"Descriptor": ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, "Platforms": append([]ocispec.Platform{}, platforms...),
	})
}

// registryError gives what a registry has said docker's status: 404 for what is not there, 401 for whom it does not know.
func registryError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return notFound(err)
	case errors.Is(err, fs.ErrPermission):
		return &statusError{code: http.StatusUnauthorized, text: cmp.Or(textOf(err), "unauthorized")}
	}
	return err
}
