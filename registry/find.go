package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A Found is a repository that a search has found.
type Found struct {
	Name        string // as people type it, after the registry's name if that is not Docker Hub
	Description string // "" from a registry that only lists names
	Stars       int
	Official    bool
	Automated   bool
}

// hubSearch is the origin of Docker Hub's search, which its registry does not have.
const hubSearch = "search.docker.io"

// maxFound bounds what a search returns, as docker does.
const maxFound = 100

// Find searches repositories: those of Docker Hub by its search (API of the first registry, "GET /v1/search"), or, for a term
// that begins with the name of a registry, those in the catalogue of that one whose names hold the rest ("GET /v2/_catalog",
// Docker registry API). It returns at most limit, which is at most maxFound.
func (c *Client) Find(ctx context.Context, term string, limit int) ([]Found, error) {
	if limit < 1 || limit > maxFound {
		return nil, fmt.Errorf("limit %d is outside the range of [1, %d]", limit, maxFound)
	}
	domain, rest, ok := strings.Cut(term, "/")
	if !strings.ContainsAny(domain, ".:") && domain != "localhost" {
		return c.findInHub(ctx, term, limit)
	}
	if domain == "docker.io" || domain == "index.docker.io" {
		return c.findInHub(ctx, rest, limit)
	}
	if !ok {
		rest = ""
	}
	return c.findInCatalog(ctx, domain, rest, limit)
}

func (c *Client) findInHub(ctx context.Context, term string, limit int) (found []Found, err error) {
	o, err := c.originOf(hubSearch)
	if err != nil {
		return nil, err
	}
	query := url.Values{"q": {strings.TrimPrefix(term, "library/")}, "n": {strconv.Itoa(limit)}}
	_, raw, err := listing{origin: o, name: "Docker Hub"}.page(ctx, "/v1/search?"+query.Encode())
	if err != nil {
		return nil, err
	}
	var answer struct {
		Results []struct {
			Name        string
			Description string
			Stars       int  `json:"star_count"`
			Official    bool `json:"is_official"`
			Automated   bool `json:"is_automated"`
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("search of %s: the answer is no list: %w", hubSearch, err)
	}
	for _, r := range answer.Results[:min(limit, len(answer.Results))] {
		found = append(found, Found(r))
	}
	return found, nil
}

func (c *Client) findInCatalog(ctx context.Context, domain, term string, limit int) (found []Found, err error) {
	o, err := c.originOf(domain)
	if err != nil {
		return nil, err
	}
	l := listing{o, access{scopes: []string{"registry:catalog:*"}}, domain, fmt.Sprintf("/v2/_catalog?n=%d", pageSize)}
	err = l.each(ctx, func(raw []byte) (bool, error) {
		var page struct{ Repositories []string }
		if err := json.Unmarshal(raw, &page); err != nil {
			return false, errors.New("its catalogue is none")
		}
		for _, name := range page.Repositories {
			if len(found) < limit && strings.Contains(name, term) {
				found = append(found, Found{Name: domain + "/" + name})
			}
		}
		return len(found) < limit, nil
	})
	return found, err
}

// originOf returns what is known of a registry, or of another server, as a whole.
func (c *Client) originOf(domain string) (*origin, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	return c.origin(conf, place{domain: domain, insecure: conf.insecure(domain)})
}
