package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"

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
	repos, err := s.store.repositories("_manifests")
	if err != nil {
		return err
	}
	slices.Sort(repos)
	if repos, err = page(w, r, repos); err != nil {
		return err
	}
	return answerJSON(w, "application/json", map[string][]string{"repositories": repos})
}

// maxPage bounds one answer of names.
const maxPage = 10_000

// page cuts out of a sorted list what comes after the query's last, at most n of it, and links to the rest.
func page(w http.ResponseWriter, r *http.Request, list []string) ([]string, error) {
	q := r.URL.Query()
	list = after(list, q.Get("last"))
	if list == nil {
		list = []string{} // an empty list in JSON, not null
	}
	n := maxPage
	if q.Has("n") {
		asked, err := strconv.Atoi(q.Get("n"))
		if err != nil || asked < 0 {
			return nil, errPageInvalid.with(q.Get("n"))
		}
		n = min(n, asked)
	}
	if n >= len(list) {
		return list, nil
	}
	list = list[:n]
	if n > 0 {
		linkNext(w, r, url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}})
	}
	return list, nil
}

// maxReferrers bounds one answer about referrers, in bytes of their records; a link leads to the rest.
const maxReferrers = 2 << 20

// listReferrers answers with an index of the manifests that are about another, which need not be here itself.
func (s *Server) listReferrers(w http.ResponseWriter, r *http.Request, t target) error {
	if err := checkDigest(t.what); err != nil {
		return err
	}
	subject := digest.Digest(t.what)
	hexes, err := names(s.store.in(t.repo, "_referrers", subject.Encoded()))
	if err != nil {
		return err
	}
	slices.Sort(hexes)
	q := r.URL.Query()
	hexes = after(hexes, q.Get("last"))
	filter := q.Get("artifactType")
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{},
	}
	size := 0
	for i, hex := range hexes {
		d, n, err := s.referrer(t.repo, subject, hex)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed just now
		}
		if err != nil {
			return err
		}
		if filter != "" && d.ArtifactType != filter {
			continue
		}
		index.Manifests = append(index.Manifests, d)
		if size += n; size >= maxReferrers && i+1 < len(hexes) {
			q.Set("last", hex)
			linkNext(w, r, q)
			break
		}
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answerJSON(w, ocispec.MediaTypeImageIndex, index)
}

// referrer reads what is to be said of a manifest about subject, and how long that is. A record that is too long, as earlier
// versions wrote them, or damaged, is answered without annotations.
func (s *Server) referrer(repo string, subject digest.Digest, hex string) (d ocispec.Descriptor, n int, err error) {
	raw, err := readRecord(s.store.in(repo, "_referrers", subject.Encoded(), hex))
	if err != nil {
		return d, 0, err
	}
	if len(raw) <= maxRecord && json.Unmarshal(raw, &d) == nil {
		return d, len(raw), nil
	}
	d, err = s.store.manifest(repo, "sha256:"+hex)
	return d, 200, err
}

// after is what comes behind last in a sorted list.
func after(list []string, last string) []string {
	i, found := slices.BinarySearch(list, last)
	if found {
		i++
	}
	return list[i:]
}

func linkNext(w http.ResponseWriter, r *http.Request, q url.Values) {
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, q.Encode()))
}
