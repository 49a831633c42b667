package pages

import (
	"bytes"
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

// summary is for which platforms something is, and how large what is pulled is, each image once. had are the sizes that are known.
func (v *view) summary(ctx context.Context, d ocispec.Descriptor, had map[digest.Digest]int64) (names []string, size int64, err error) {
	doc, _, err := image.ReadDocument(ctx, v, d)
	if err != nil {
		return nil, 0, err
	}
	if !doc.IsIndex() {
		size = layerSize(doc.Layers)
		img, err := image.Read(ctx, v, d, nil)
		if over := v.over(ctx); over != nil {
			return nil, 0, over
		}
		if err != nil {
			return []string{clip(artifact(doc))}, size, nil //nolint:nilerr // it is no image
		}
		return []string{clip(platforms.Format(img.Config.Platform))}, size, nil
	}
	counted := map[digest.Digest]bool{}
	for _, child := range doc.Manifests[:min(maxRows, len(doc.Manifests))] {
		if !isImage(child) {
			continue
		}
		if child.Platform != nil && len(names) < maxPlatforms {
			names = append(names, clip(platforms.Format(*child.Platform)))
		}
		if image.IsIndex(child.MediaType) || counted[child.Digest] {
			continue
		}
		counted[child.Digest] = true
		if n, err := v.size(ctx, child, had); err == nil {
			size += n
		}
		if err := v.over(ctx); err != nil {
			return nil, 0, err
		}
	}
	return names, size, nil
}

// maxPlatforms bounds how many platforms a list says of one tag.
const maxPlatforms = 100

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
	reader := p.view(v.Repository)
	doc, _, err := image.ReadDocument(r.Context(), reader, d)
	if err != nil {
		return "", nil, err
	}
	rows := []ocispec.Descriptor{d}
	if doc.IsIndex() {
		rows = doc.Manifests[:min(maxRows, len(doc.Manifests))]
	} else if _, err := doc.Manifest(); err != nil {
		v.Artifact = clip(artifact(doc))
		return "image.html", v, nil //nolint:nilerr // it is no image
	}
	shown := map[digest.Digest]bool{}
	for _, child := range rows {
		if !isImage(child) || shown[child.Digest] {
			continue
		}
		shown[child.Digest] = true
		v.Images = append(v.Images, reader.platformImage(r.Context(), child, rows))
		if reader.over(r.Context()) != nil {
			break // as the last one's problem says
		}
	}
	return "image.html", v, nil
}

// platformImage reads an image that may be one of several rows of an index.
func (v *view) platformImage(ctx context.Context, d ocispec.Descriptor, rows []ocispec.Descriptor) platformImage {
	shown := platformImage{Descriptor: d}
	if d.Platform != nil {
		shown.Platform = clip(platforms.Format(*d.Platform))
	}
	img, err := image.Read(ctx, v, d, nil)
	if err != nil {
		shown.Problem = clip(err.Error())
		return shown
	}
	shown.Image, shown.Platform, shown.Lines = img, clip(platforms.Format(img.Config.Platform)), lines(img)
	shown.Size = layerSize(img.Manifest.Layers)
	if shown.Attestations, err = v.attestations(ctx, d, rows); err != nil {
		shown.Problem = clip(err.Error())
	}
	return shown
}

// attestations are what was said of an image: by manifests about it, or in other rows of its index.
func (v *view) attestations(ctx context.Context, d ocispec.Descriptor, rows []ocispec.Descriptor) (all []about, err error) {
	digests, err := v.registry.Referrers(v.repo, d.Digest)
	if err != nil {
		return nil, err
	}
	for _, about := range digests[:min(maxRows, len(digests))] {
		if a, err := v.registry.Manifest(v.repo, about.String()); err == nil { // it may have been deleted since
			all = append(all, v.abouts(ctx, a)...)
		}
		if err := v.over(ctx); err != nil {
			return all, err
		}
	}
	for _, row := range rows {
		if row.Annotations["vnd.docker.reference.digest"] == d.Digest.String() {
			all = append(all, v.abouts(ctx, row)...)
		}
		if err := v.over(ctx); err != nil {
			return all, err
		}
	}
	return all, nil
}

// abouts are the statements that a manifest holds.
func (v *view) abouts(ctx context.Context, d ocispec.Descriptor) (all []about) {
	doc, _, err := image.ReadDocument(ctx, v, d)
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
		all = append(all, about{clip(kind), d.Digest, strconv.Itoa(i)})
	}
	return all
}

// lines are the lines of an image's history, with the layers that they have made. Layers that no line tells of come last.
func lines(img *image.Image) (all []line) {
	layers := slices.Clone(img.Manifest.Layers)
	for _, h := range img.Config.History[:min(maxRows, len(img.Config.History))] {
		l := line{Text: clip(instruction(h.CreatedBy)), Created: h.Created}
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
	return "packages.html", &v, v.read(r.Context(), json.NewDecoder(bytes.NewReader(raw)))
}

// read takes the packages from a statement, one after the other: a short text can list very many.
func (v *packagesPage) read(ctx context.Context, dec *json.Decoder) error {
	for _, key := range []string{"predicate", "packages"} {
		if found, err := find(dec, key); !found || err != nil {
			return err
		}
	}
	if there, err := enter(dec, '['); !there || err != nil {
		return err
	}
	for dec.More() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var pkg struct {
			Name    string `json:"name"`
			Version string `json:"versionInfo"`
			License string `json:"licenseDeclared"`
		}
		if err := dec.Decode(&pkg); err != nil {
			return err
		}
		if pkg.Version == "" || !strings.Contains(pkg.Name, v.Query) {
			continue
		}
		if v.Total++; v.Total <= maxRows {
			license := strings.TrimPrefix(pkg.License, "NOASSERTION")
			v.Packages = append(v.Packages, struct{ Name, Version, License string }{clip(pkg.Name), clip(pkg.Version), clip(license)})
		}
	}
	return nil
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
