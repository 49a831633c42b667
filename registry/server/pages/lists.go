package pages

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pageSize is how many rows a list has at most.
const pageSize = 100

// A list is a page of a list of repositories or tags.
type list struct {
	Title, Host, Query string
	Repository         string // of the tags
	Rows               []row
	Total              int    // that were found
	Next               string // what the next page comes after; "" is the last
}

// A row is a repository, or a tag.
type row struct {
	Name      string
	Tags      int
	Pushed    time.Time // the latest; zero if there is none
	Image     ocispec.Descriptor
	Platforms []string
	Size      int64 // of what is pulled, compressed; of several platforms, all
	Problem   string
}

// cut keeps, of rows that are sorted by name, those of the page that comes after a name.
func (l *list) cut(after string) {
	l.Total = len(l.Rows)
	i, found := slices.BinarySearchFunc(l.Rows, after, func(r row, name string) int { return strings.Compare(r.Name, name) })
	if found {
		i++
	}
	if after != "" {
		l.Rows = l.Rows[i:]
	}
	if len(l.Rows) > pageSize {
		l.Rows = l.Rows[:pageSize]
		l.Next = l.Rows[pageSize-1].Name
	}
}

// repositories lists the repositories whose names hold what is looked for.
func (p *Handler) repositories(r *http.Request) (string, any, error) {
	l := list{Title: "Repositories", Host: r.Host, Query: r.URL.Query().Get("q")}
	names, err := p.registry.Repositories()
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		if strings.Contains(name, strings.ToLower(strings.TrimSpace(l.Query))) {
			l.Rows = append(l.Rows, row{Name: name})
		}
	}
	l.cut(r.URL.Query().Get("last"))
	for i := range l.Rows {
		row := &l.Rows[i]
		if r.Context().Err() != nil {
			return "", nil, context.Cause(r.Context())
		}
		tags, err := p.registry.Tags(row.Name)
		if err != nil {
			row.Problem = err.Error()
			continue
		}
		for _, tag := range tags {
			if row.Tags++; tag.Pushed.After(row.Pushed) {
				row.Pushed = tag.Pushed
			}
		}
	}
	return "repositories.html", l, nil
}

// repository lists the tags of a repository.
func (p *Handler) repository(r *http.Request) (string, any, error) {
	repo := r.URL.Query().Get("name")
	l := list{Title: repo, Host: r.Host, Repository: repo, Query: r.URL.Query().Get("q")}
	tags, err := p.registry.Tags(repo)
	if err != nil {
		return "", nil, err
	}
	for _, tag := range tags {
		if strings.Contains(tag.Name, strings.TrimSpace(l.Query)) {
			l.Rows = append(l.Rows, row{Name: tag.Name, Pushed: tag.Pushed, Image: ocispec.Descriptor{Digest: tag.Digest}})
		}
	}
	l.cut(r.URL.Query().Get("last"))
	reader, sizes := p.view(repo), map[digest.Digest]int64{}
	for i := range l.Rows {
		row := &l.Rows[i]
		if r.Context().Err() != nil {
			return "", nil, context.Cause(r.Context())
		}
		d, err := p.registry.Manifest(repo, row.Image.Digest.String())
		if err == nil {
			row.Image = d
			row.Platforms, row.Size, err = reader.summary(r.Context(), d, sizes)
		}
		if err != nil {
			row.Problem = clip(err.Error())
		}
	}
	return "repository.html", l, nil
}
