// Package pages shows a registry to people: pages that are read, and change nothing.
//
// What a registry holds comes from strangers. It is shown as text, within limits, and the pages load nothing from elsewhere.
package pages

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A Registry is what is shown. What is not there is an error that is fs.ErrNotExist. Safe for concurrent use.
type Registry interface {
	// Repositories are the names of all repositories, sorted.
	Repositories() ([]string, error)
	// Tags are the tags of a repository, sorted by name.
	Tags(repo string) ([]Tag, error)
	// Manifest describes what a tag or a digest names.
	Manifest(repo, reference string) (ocispec.Descriptor, error)
	// Referrers are the digests of the manifests about another.
	Referrers(repo string, d digest.Digest) ([]digest.Digest, error)
	// Content is what a repository holds.
	Content(repo string) image.Fetcher
}

// A Tag is a name in a repository.
type Tag struct {
	Name   string
	Digest digest.Digest
	Pushed time.Time
}

//go:embed page.css page.js *.html
var files embed.FS //nolint:gochecknoglobals // what go:embed fills is one

// A Handler answers requests below /ui/.
type Handler struct {
	registry Registry
	html     *template.Template
}

// New makes pages of a registry.
func New(r Registry) (*Handler, error) {
	html, err := template.New("").Funcs(template.FuncMap{
		"size": func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) },
		"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
		"ago":  func(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" },
		"short": func(d digest.Digest) string {
			return d.Encoded()[:min(12, len(d.Encoded()))]
		},
		"link": link,
		"clip": clip,
	}).ParseFS(files, "*.html")
	return &Handler{r, html}, err
}

// link is the address of a page with pairs of parameters.
func link(page string, pairs ...string) template.URL {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	if len(query) == 0 {
		return template.URL("/ui/" + page) //nolint:gosec // made of a constant and of escaped parameters
	}
	return template.URL("/ui/" + page + "?" + query.Encode()) //nolint:gosec // the same
}

// policy keeps a page from loading anything but its own style and script, whatever is in it.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers a request for a page.
func (p *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		p.fail(w, r, http.StatusMethodNotAllowed, "These pages can only be read.")
		return
	}
	show := map[string]func(*http.Request) (string, any, error){
		"/ui/": p.repositories, "/ui/repository": p.repository, "/ui/image": p.image, "/ui/packages": p.packages,
	}[r.URL.Path]
	switch {
	case r.URL.Path == "/" || r.URL.Path == "/ui":
		http.Redirect(w, r, "/ui/", http.StatusFound)
	case r.URL.Path == "/ui/page.css" || r.URL.Path == "/ui/page.js":
		http.ServeFileFS(w, r, files, strings.TrimPrefix(r.URL.Path, "/ui/"))
	case r.URL.Path == "/ui/attestation":
		p.attestation(w, r)
	case show == nil:
		p.fail(w, r, http.StatusNotFound, "There is no such page.")
	default:
		name, data, err := show(r)
		if err != nil {
			p.failed(w, r, err)
			return
		}
		p.write(w, r, http.StatusOK, name, data)
	}
}

// failed tells what went wrong.
func (p *Handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		p.fail(w, r, http.StatusNotFound, "The registry has no such repository, tag or image.")
		return
	}
	p.fail(w, r, http.StatusInternalServerError, "The registry cannot show this: "+clip(err.Error()))
}

func (p *Handler) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	p.write(w, r, status, "error.html", map[string]any{"Title": http.StatusText(status), "Text": text, "Host": r.Host, "Query": ""})
}

func (p *Handler) write(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b sheet
	err := p.html.ExecuteTemplate(&b, name, data)
	if errors.Is(err, errTooMuch) && status == http.StatusOK {
		p.failed(w, r, errTooMuch)
		return
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("page %s: %v", name, err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = b.WriteTo(w)
	}
}
