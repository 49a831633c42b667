package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/inspect"
)

// usageRoutes are about what takes room, and about the build cache.
func usageRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/system/df", do: diskUsage},
		{method: http.MethodPost, pattern: "/build/prune", do: pruneBuildCache},
	}
}

// A cacheRecord is an entry of the build cache.
type cacheRecord struct {
	ID          string
	Parents     []string // none: an entry is a layer alone
	Type        string
	Description string
	InUse       bool
	Shared      bool
	Size        int64
	CreatedAt   time.Time
	LastUsedAt  time.Time
	UsageCount  int
}

// diskUsage says what takes how much room. What is not asked for is null.
func diskUsage(c *call) error {
	var v struct {
		LayersSize int64
		Images     []*inspect.ImageSummary
		Containers []inspect.ContainerSummary
		Volumes    []forge.VolumeInfo
		BuildCache []cacheRecord
	}
	types := c.query["type"]
	wants := func(t string) bool { return len(types) == 0 || slices.Contains(types, t) }
	var err error
	if wants("image") {
		if v.Images, err = c.home.ImageSummaries(c.ctx(), forge.ImagesOptions{}); err != nil {
			return err
		}
		v.LayersSize = c.home.ShareSizes(c.ctx(), v.Images)
		v.Images = append([]*inspect.ImageSummary{}, v.Images...)
	}
	if wants("container") {
		if v.Containers, err = c.containers(forge.ListOptions{All: true, Size: true, Last: -1}); err != nil {
			return err
		}
	}
	if wants("volume") {
		list, err := c.home.MeasuredVolumes()
		if err != nil {
			return err
		}
		v.Volumes = append([]forge.VolumeInfo{}, list...)
	}
	if wants("build-cache") {
		if v.BuildCache, err = c.buildCache(); err != nil {
			return err
		}
	}
	return c.reply(http.StatusOK, v)
}

func (c *call) buildCache() ([]cacheRecord, error) {
	list, err := c.home.BuildCache(c.ctx())
	if err != nil {
		return nil, err
	}
	all := []cacheRecord{}
	for i := range list {
		u := &list[i]
		all = append(all, cacheRecord{
			ID: u.ID, Parents: []string{}, Type: "regular", Description: u.Description, Shared: u.Shared, Size: u.Bytes, CreatedAt: u.Created, LastUsedAt: u.Used, UsageCount: 1,
		})
	}
	return all, nil
}

// pruneBuildCache removes the build cache as far as the query lets it. reserved-space and its older name keep-storage, and max-used-space,
// are how much stays.
func pruneBuildCache(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	o := forge.PruneOptions{Only: forge.PruneCache, All: c.flag("all")}
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		if key == "unused-for" {
			f = "until=" + value
		}
		o.Filters = append(o.Filters, f)
	}
	for _, key := range []string{"reserved-space", "keep-storage", "max-used-space"} {
		n, given, err := c.number(key)
		if err != nil {
			return err
		}
		if given && n > 0 {
			o.MaxSize = strconv.Itoa(n)
		}
	}
	if n, _, err := c.number("min-free-space"); err != nil {
		return err
	} else if n > 0 {
		return invalid(errors.New("min-free-space is not there: say with max-used-space how much of the cache stays"))
	}
	if err := o.Check(); err != nil {
		return invalid(err)
	}
	before, err := c.home.BuildCache(c.ctx())
	if err != nil {
		return err
	}
	r, err := c.home.Prune(c.ctx(), o)
	if err != nil {
		return err
	}
	after, err := c.home.BuildCache(c.ctx())
	if err != nil {
		return err
	}
	var gone []string
	for i := range before {
		if !slices.ContainsFunc(after, func(u forge.CacheUsage) bool { return u.ID == before[i].ID }) {
			gone = append(gone, before[i].ID)
		}
	}
	return c.reply(http.StatusOK, map[string]any{"CachesDeleted": gone, "SpaceReclaimed": r.Bytes})
}
