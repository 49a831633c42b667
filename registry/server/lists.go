package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func (s *Server) listTags(w http.ResponseWriter, r *http.Request, t target) error {
	if !s.store.hasRepo(t.repo) {
		return errNameUnknown.with(t.repo)
	}
	tags, err := names(s.store.in(t.repo, "_tags"))
	if err != nil {
		return err
	}
	slices.Sort(tags)
	if tags, err = page(w, r, tags); err != nil {
		return err
	}
	return answerJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{t.repo, tags})
}

func (s *Server) catalog(w http.ResponseWriter, r *http.Request) error {
	base := filepath.Join(s.store.root, "repositories")
	repos := []string{}
	err := filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), "_") {
			return err
		}
		if e.Name() == "_manifests" {
			name, err := filepath.Rel(base, filepath.Dir(path))
			if err != nil {
				return err
			}
			repos = append(repos, name)
		}
		return fs.SkipDir
	})
	if err != nil {
		return err
	}
	slices.Sort(repos)
	if repos, err = page(w, r, repos); err != nil {
		return err
	}
	return answerJSON(w, "application/json", map[string][]string{"repositories": repos})
}

// page cuts out of a sorted list what comes after the query's last, at most n of it, and links to the rest.
func page(w http.ResponseWriter, r *http.Request, list []string) ([]string, error) {
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(list, last)
		if found {
			i++
		}
		list = list[i:]
	}
	if list == nil {
		list = []string{} // an empty list in JSON, not null
	}
	if !q.Has("n") {
		return list, nil
	}
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil || n < 0 {
		return nil, errPageInvalid.with(q.Get("n"))
	}
	if n >= len(list) {
		return list, nil
	}
	list = list[:n]
	if n > 0 {
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}}
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, next.Encode()))
	}
	return list, nil
}

// listReferrers answers with an index of the manifests that are about another, which need not be here itself.
func (s *Server) listReferrers(w http.ResponseWriter, r *http.Request, t target) error {
	if err := checkDigest(t.what); err != nil {
		return err
	}
	dir := s.store.in(t.repo, "_referrers", digest.Digest(t.what).Encoded())
	hexes, err := names(dir)
	if err != nil {
		return err
	}
	slices.Sort(hexes)
	filter := r.URL.Query().Get("artifactType")
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{},
	}
	for _, hex := range hexes {
		raw, err := readRecord(filepath.Join(dir, hex))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed just now
		}
		if err != nil {
			return err
		}
		var d ocispec.Descriptor
		if err := json.Unmarshal(raw, &d); err != nil {
			return err
		}
		if filter == "" || d.ArtifactType == filter {
			index.Manifests = append(index.Manifests, d)
		}
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answerJSON(w, ocispec.MediaTypeImageIndex, index)
}
