package pages

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// maxRows bounds how much of an image is shown: platforms, lines of its history, packages.
const maxRows = 2000

// summary is for which platforms something is, and how large what is pulled is.
func (p *Handler) summary(ctx context.Context, repo string, d ocispec.Descriptor) (names []string, size int64, err error) {
	doc, _, err := image.ReadDocument(ctx, p.registry.Content(repo), d)
	if err != nil {
		return nil, 0, err
	}
	if !doc.IsIndex() {
		for _, layer := range doc.Layers {
			size += layer.Size
		}
		img, err := image.Read(ctx, p.registry.Content(repo), d, nil)
		if err != nil {
			return []string{artifact(doc)}, size, nil //nolint:nilerr // it is no image
		}
		return []string{platforms.Format(img.Config.Platform)}, size, nil
	}
	for _, child := range doc.Manifests[:min(maxRows, len(doc.Manifests))] {
		if !isImage(child) {
			continue
		}
		if child.Platform != nil {
			names = append(names, platforms.Format(*child.Platform))
		}
		if _, n, err := p.summary(ctx, repo, child); err == nil && !image.IsIndex(child.MediaType) {
			size += n
		}
	}
	return names, size, nil
}

// isImage reports whether a row of an index is an image: BuildKit puts attestations beside them.
func isImage(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "attestation-manifest"
}

// artifact is what a manifest that is no image is.
func artifact(doc *image.Document) string {
	if doc.ArtifactType != "" {
		return doc.ArtifactType
	}
	return doc.Config.MediaType
}

// An imagePage shows what a tag or a digest names.
type imagePage struct {
	Title, Host, Query string
	Repository, Tag    string
	Digest             digest.Digest
	MediaType          string
	Images             []platformImage
	Artifact           string // what it is if it is no image
}

// A platformImage is the image of one platform.
type platformImage struct {
	Platform     string
	Descriptor   ocispec.Descriptor
	Image        *image.Image
	Size         int64
	Lines        []line
	Attestations []about
	Problem      string
}

// A line is a line of the build file, with the layer that it has made.
type line struct {
	Text    string
	Layer   *ocispec.Descriptor // nil if it has changed the configuration only
	Created *time.Time
}

// An about is something that was said of an image.
type about struct {
	Kind   string        // "SBOM", "provenance", or its type
	Digest digest.Digest // of the manifest that holds it
	Layer  string        // which of its layers it is
}

func (p *Handler) image(r *http.Request) (string, any, error) {
	query := r.URL.Query()
	v := imagePage{Title: query.Get("name"), Host: r.Host, Repository: query.Get("name"), Tag: query.Get("ref")}
	d, err := p.registry.Manifest(v.Repository, v.Tag)
	if err != nil {
		return "", nil, err
	}
	v.Digest, v.MediaType = d.Digest, d.MediaType
	if v.Tag == d.Digest.String() {
		v.Title, v.Tag = v.Repository+"@"+v.Tag, ""
	} else {
		v.Title += ":" + v.Tag
	}
	doc, _, err := image.ReadDocument(r.Context(), p.registry.Content(v.Repository), d)
	if err != nil {
		return "", nil, err
	}
	rows := []ocispec.Descriptor{d}
	if doc.IsIndex() {
		rows = doc.Manifests[:min(maxRows, len(doc.Manifests))]
	} else if _, err := doc.Manifest(); err != nil {
		v.Artifact = artifact(doc)
		return "image.html", v, nil //nolint:nilerr // it is no image
	}
	for _, child := range rows {
		if isImage(child) {
			v.Images = append(v.Images, p.platformImage(r.Context(), v.Repository, child, rows))
		}
	}
	return "image.html", v, nil
}

// platformImage reads an image that may be one of several rows of an index.
func (p *Handler) platformImage(ctx context.Context, repo string, d ocispec.Descriptor, rows []ocispec.Descriptor) platformImage {
	v := platformImage{Descriptor: d}
	if d.Platform != nil {
		v.Platform = platforms.Format(*d.Platform)
	}
	img, err := image.Read(ctx, p.registry.Content(repo), d, nil)
	if err != nil {
		v.Problem = err.Error()
		return v
	}
	v.Image, v.Platform, v.Lines = img, platforms.Format(img.Config.Platform), lines(img)
	for _, layer := range img.Manifest.Layers {
		v.Size += layer.Size
	}
	list, err := p.registry.Referrers(repo, d.Digest)
	if err != nil {
		v.Problem = err.Error()
	}
	for _, row := range rows {
		if row.Annotations["vnd.docker.reference.digest"] == d.Digest.String() {
			list = append(list, row)
		}
	}
	for _, a := range list[:min(maxRows, len(list))] {
		v.Attestations = append(v.Attestations, p.abouts(ctx, repo, a)...)
	}
	return v
}

// abouts are the statements that a manifest holds.
func (p *Handler) abouts(ctx context.Context, repo string, d ocispec.Descriptor) (all []about) {
	doc, _, err := image.ReadDocument(ctx, p.registry.Content(repo), d)
	if err != nil {
		return nil
	}
	for i, layer := range doc.Layers {
		kind := layer.Annotations[image.PredicateAnnotation]
		switch {
		case strings.HasPrefix(kind, "https://spdx.dev/"):
			kind = "SBOM"
		case strings.HasPrefix(kind, "https://slsa.dev/provenance/"):
			kind = "provenance"
		case kind == "":
			kind = artifact(doc)
		}
		all = append(all, about{kind, d.Digest, strconv.Itoa(i)})
	}
	return all
}

// lines are the lines of an image's history, with the layers that they have made. Layers that no line tells of come last.
func lines(img *image.Image) (all []line) {
	layers := slices.Clone(img.Manifest.Layers)
	for _, h := range img.Config.History[:min(maxRows, len(img.Config.History))] {
		l := line{Text: instruction(h.CreatedBy), Created: h.Created}
		if !h.EmptyLayer && len(layers) > 0 {
			l.Layer = &layers[0]
			layers = layers[1:]
		}
		all = append(all, l)
	}
	for i := range layers {
		all = append(all, line{Text: "(no history)", Layer: &layers[i]})
	}
	return all
}

// instruction is a line of history as it was in the build file.
func instruction(text string) string {
	text = strings.TrimSuffix(text, " # buildkit")
	if rest, ok := strings.CutPrefix(text, "/bin/sh -c #(nop) "); ok {
		return strings.TrimSpace(rest)
	}
	if rest, ok := strings.CutPrefix(text, "/bin/sh -c "); ok {
		return "RUN " + rest
	}
	return strings.TrimPrefix(text, "RUN /bin/sh -c ")
}

// A packagesPage shows a list of packages.
type packagesPage struct {
	Title, Host, Query string
	Repository, Tag    string
	Digest             digest.Digest
	Layer              string
	Packages           []struct{ Name, Version, License string }
	Total              int
}

// packages shows an SBOM as a table.
func (p *Handler) packages(r *http.Request) (string, any, error) {
	query := r.URL.Query()
	v := packagesPage{
		Title: "Packages", Host: r.Host, Repository: query.Get("name"), Tag: query.Get("ref"), Digest: digest.Digest(query.Get("digest")), Layer: query.Get("n"), Query: query.Get("q"),
	}
	raw, err := p.statement(r)
	if err != nil {
		return "", nil, err
	}
	var statement struct {
		Predicate struct {
			Packages []struct {
				Name    string `json:"name"`
				Version string `json:"versionInfo"`
				License string `json:"licenseDeclared"`
			} `json:"packages"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(raw, &statement); err != nil {
		return "", nil, err
	}
	for _, pkg := range statement.Predicate.Packages {
		if pkg.Version == "" || !strings.Contains(pkg.Name, v.Query) {
			continue
		}
		if v.Total++; v.Total <= maxRows {
			v.Packages = append(v.Packages, struct{ Name, Version, License string }{pkg.Name, pkg.Version, strings.TrimPrefix(pkg.License, "NOASSERTION")})
		}
	}
	return "packages.html", v, nil
}

// maxStatement bounds a statement, in bytes.
const maxStatement = 64 << 20

// statement reads what an artifact says: the content of its n'th layer.
func (p *Handler) statement(r *http.Request) ([]byte, error) {
	query := r.URL.Query()
	repo := query.Get("name")
	d, err := p.registry.Manifest(repo, query.Get("digest"))
	if err != nil {
		return nil, err
	}
	doc, _, err := image.ReadDocument(r.Context(), p.registry.Content(repo), d)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(query.Get("n"), 10, 16)
	if err != nil || n >= uint64(len(doc.Layers)) {
		return nil, fs.ErrNotExist
	}
	return image.ReadBlob(r.Context(), p.registry.Content(repo), doc.Layers[n], maxStatement)
}

// attestation answers with a statement as it is. It is offered as a file, so that nothing in it is a page.
func (p *Handler) attestation(w http.ResponseWriter, r *http.Request) {
	raw, err := p.statement(r)
	if err != nil {
		p.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="attestation.json"`)
	_, _ = w.Write(raw)
}
