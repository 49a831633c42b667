package forge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/attest"
	"github.com/forge-build/forge/attest/sbom"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// AttestOptions say what a build writes down about its image, beside the image. The zero value is nothing.
type AttestOptions = attest.Options

// ParseAttest reads the values of docker's --sbom, --provenance and --attest.
func ParseAttest(sbom, provenance string, attests []string) (AttestOptions, error) {
	return attest.ParseOptions(sbom, provenance, attests)
}

// attest writes down what is known of a target's images, and attaches it to them.
func (h *Home) attest(ctx context.Context, t *making, r *BuildResult) error {
	for i, img := range r.Images {
		subject := attest.NewSubject(firstTag(r.Tags), img.Config.Platform, img.Descriptor.Digest)
		if t.Attest.SBOM {
			if err := t.src.images.FetchLayers(ctx, img.Layers()); err != nil {
				return err
			}
			text, err := h.sbom(ctx, img, subject.Name, t.Attest.Tool)
			if err == nil {
				err = h.attach(ctx, img.Descriptor, attest.NewStatement(sbom.PredicateType, text, subject))
			}
			if err != nil {
				return fmt.Errorf("--sbom: %w", err)
			}
		}
		if t.Attest.Provenance != "" {
			text, err := t.provenance(t.Attest.Provenance, i).Provenance()
			if err == nil {
				err = h.attach(ctx, img.Descriptor, attest.NewStatement(attest.SLSA, text, subject))
			}
			if err != nil {
				return fmt.Errorf("--provenance: %w", err)
			}
		}
	}
	return nil
}

func firstTag(tags []image.Reference) image.Reference {
	if len(tags) == 0 {
		return image.Reference{}
	}
	return tags[0]
}

// sbom lists the packages in an image as SPDX. The same image has the same list.
func (h *Home) sbom(ctx context.Context, img *image.Image, name, tool string) (text []byte, err error) {
	view, err := h.view(ctx, img.Layers())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	packages, err := sbom.Scan(ctx, view)
	if err != nil {
		return nil, err
	}
	about := sbom.About{
		Name: name, Namespace: "https://github.com/forge-build/forge/spdx/" + img.ID().Encoded(), Created: time.Unix(0, 0), Tool: "forge-" + tool,
	}
	if img.Config.Created != nil {
		about.Created = *img.Config.Created
	}
	return sbom.SPDX(about, packages)
}

// attach keeps a statement about an image beside it.
func (h *Home) attach(ctx context.Context, subject ocispec.Descriptor, s attest.Statement) error {
	d, manifest, err := s.Push(ctx, h.Layout, subject)
	if err != nil {
		return err
	}
	return h.Layout.Attach(ctx, d, manifest)
}

// maxOrigin is how large provenance may be that is kept with the events of a build, which are read line by line.
const maxOrigin = 512 << 10

// origins tell where the target's images came from, without values of arguments.
func (t *making) origins() (all []*event.Provenance) {
	for i, g := range t.graphs {
		text, err := t.provenance("min", i).Provenance()
		if err == nil && len(text) <= maxOrigin {
			all = append(all, &event.Provenance{Platform: platforms.Format(g.Platform), Type: attest.SLSA, Predicate: text})
		}
	}
	return all
}

// provenance is what there is to tell of the target's i'th image: "min", or "max" with what was asked for in full.
func (t *making) provenance(mode string, i int) attest.Build {
	g := t.graphs[i]
	b := attest.Build{
		ID: newID(), Builder: t.Attest.BuilderID, Version: t.Attest.Tool, Began: t.began, Ended: time.Now(), File: t.src.Name,
		Platform: platforms.Format(thisPlatform()),
		Request: map[string]any{
			"target": g.Target, "platform": platforms.Format(g.Platform), "network": t.Network, "noCache": t.NoCache,
			"secrets": identities(t.Secrets), "ssh": identities(t.SSH), // in the form of BuildKit, whose clients read it
		},
	}
	if source.IsRemote(t.Context) {
		b.Source = remoteMaterial(t.Context, t.src.Commit)
	}
	b.Materials = t.materials(i)
	if mode == "max" {
		args := map[string]string{}
		for name, value := range t.Args {
			if !strings.HasSuffix(strings.ToLower(name), "_proxy") { // may hold a password, and changes nothing
				args[name] = web.RedactText(value)
			}
		}
		labels := make([]string, len(t.Labels))
		for i, label := range t.Labels {
			labels[i] = web.RedactText(label)
		}
		b.Request["args"], b.Request["labels"] = args, labels
		text := web.RedactText(string(t.src.Text))
		b.Internal = map[string]any{
			"buildFile": base64.StdEncoding.EncodeToString([]byte(text)), "steps": stepsOf(g.Own()), "layers": diffIDs(t.results[i].Layers),
		}
	}
	return b
}

// An identity is the name of a secret or of a key.
type identity struct {
	ID string `json:"id"`
}

// identities are the names of secrets and of keys, without where they come from.
func identities(specs []string) []identity {
	ids := []identity{}
	for _, spec := range specs {
		id := spec
		for field := range strings.SplitSeq(spec, ",") {
			if value, ok := strings.CutPrefix(field, "id="); ok {
				id = value
			}
		}
		id, _, _ = strings.Cut(id, "=")
		ids = append(ids, identity{id})
	}
	return ids
}

// materials are what the steps of the target's i'th graph have read from outside, each once, and the contexts with names that came from there.
func (t *making) materials(i int) (all []attest.Material) {
	seen := map[string]bool{}
	add := func(m attest.Material) {
		key := fmt.Sprint(m)
		if !seen[key] {
			all = append(all, m)
		}
		seen[key] = true
	}
	g := t.graphs[i]
	needed := g.Needed()
	for _, s := range g.Steps {
		if !needed[s.Index] { // another target's, or another platform's
			continue
		}
		switch op := s.Op.(type) {
		case *planner.Base:
			if op.Image.Descriptor.Digest == "" { // scratch
				continue
			}
			add(attest.ImageMaterial(t.src.images.nameOf(op.Image, op.Ref), op.Image.Config.Platform, op.Image.Descriptor.Digest))
		case *planner.Copy:
			for n, in := range t.results[i].Inputs[s.Index] {
				if m, ok := materialOf(op, n, in); ok {
					add(m)
				}
			}
		case *planner.Run, *planner.Mkdir:
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.src.Remote)) {
		add(remoteMaterial(t.Contexts[name], t.src.Remote[name]))
	}
	return all
}

// materialOf is the n'th source of a COPY or ADD, if it is no file of a context or image.
func materialOf(op *planner.Copy, n int, in source.Input) (m attest.Material, ok bool) {
	src := op.Sources[n]
	switch {
	case in.Commit != nil:
		return attest.GitMaterial(web.Redact(src.Git.Remote), in.Commit.ID), true
	case in.Download != nil:
		return attest.FileMaterial(web.Redact(src.URL), in.Download.Digest), true
	case src.URL != "": // the build file says what it holds
		checksum, err := source.Checksum(op)
		if err == nil && checksum != "" {
			return attest.FileMaterial(web.Redact(src.URL), checksum), true
		}
	}
	return m, false
}

// remoteMaterial is a context that is a repository, if it is a commit, or what a URL held.
func remoteMaterial(address string, commit *source.Commit) attest.Material {
	if commit == nil {
		return attest.Material{URI: web.Redact(address)}
	}
	return attest.GitMaterial(web.Redact(address), commit.ID)
}

func stepsOf(g *planner.Graph) (steps []map[string]any) {
	for _, s := range executor.Steps(g) {
		steps = append(steps, map[string]any{"number": s.Number, "stage": s.Stage, "name": web.RedactText(s.Name), "needs": s.Needs})
	}
	return steps
}

func diffIDs(layers []image.Layer) []digest.Digest {
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		ids[i] = l.DiffID
	}
	return ids
}
