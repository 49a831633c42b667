package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/container/words"
)

// An optionReader turns what a client says of a build into what forge.Build wants.
type optionReader struct {
	o       forge.BuildOptions
	q       question
	attests []string
}

// buildOptions are what a client says of a build. What is not known is refused: it may be what the client counts on.
func (s *Service) buildOptions(ctx context.Context, b *build, q question, sess *session) (forge.BuildOptions, error) {
	if err := checkFrontend(q); err != nil {
		return forge.BuildOptions{}, err
	}
	r := optionReader{q: q}
	r.o.Args, r.o.Contexts = map[string]string{}, map[string]string{}
	r.o.Cache = "none" // a client of docker does not count on a cache in the repository of the image
	r.o.Events, r.o.AskCredential = s.watch(b), sess.credential
	r.o.Client = &forge.Client{Ref: q.request.Ref, Files: &lender{s, sess, q.attrs}, Content: sess.contents(&b.caches)}
	r.o.Client.Steps.Secret, r.o.Client.Steps.SSH, r.o.Client.Steps.Agent = sess.secret, sess.hasAgent, sess.agent
	r.o.Allow = q.request.Entitlements
	if err := r.context(ctx, sess); err != nil {
		return r.o, err
	}
	for _, key := range slices.Sorted(maps.Keys(q.attrs)) {
		if err := r.attr(key, q.attrs[key]); err != nil {
			return r.o, err
		}
	}
	var err error
	if r.o.Attest, err = forge.ParseAttest("", "", r.attests); err != nil {
		return r.o, err
	}
	r.o.Attest.Tool = s.forge
	return r.o, errors.Join(r.caches(q.request.Cache), r.epoch())
}

// checkFrontend refuses frontends other than that of Dockerfiles. An image of it is that, as a "# syntax=" line is.
func checkFrontend(q question) error {
	switch {
	case q.frontend == "dockerfile.v0" || q.frontend == "":
		return nil
	case q.frontend == "gateway.v0" && strings.Contains(q.attrs["source"], "docker/dockerfile"):
		return nil
	case q.frontend == "gateway.v0":
		return fmt.Errorf("frontend %s: forge reads Dockerfiles itself and runs no other frontends; use BuildKit for this build: docker buildx create --use", q.attrs["source"])
	}
	return fmt.Errorf("frontend %s: forge has dockerfile.v0", q.frontend)
}

// localName is the name under which the client lends a directory.
func (r *optionReader) localName(what string) string {
	if name := r.q.attrs[what+"key"]; name != "" {
		return name
	}
	return what
}

// context finds the main context and the build file.
func (r *optionReader) context(ctx context.Context, sess *session) error {
	file := r.q.attrs["filename"]
	if file == "" {
		file = "Dockerfile"
	}
	if file == "-" {
		return errors.New("filename - is no file of the client")
	}
	main := r.q.attrs["context"]
	switch {
	case main == "":
		r.o.Context = forge.ClientPrefix + r.localName("context")
	case strings.HasPrefix(main, "http://buildkit-session/"):
		r.o.Context, r.o.Stdin = "-", sess.upload(ctx, strings.TrimPrefix(main, "http://buildkit-session"))
	case !RemoteContext(main):
		return fmt.Errorf("context %s is neither a repository nor a URL: directories come from the client", main)
	default:
		r.o.Context = main
	}
	r.o.File = forge.ClientPrefix + r.localName("dockerfile") + "/" + file
	if main != "" && r.q.attrs["dockerfilekey"] == "" {
		if r.o.File = file; file == "Dockerfile" {
			r.o.File = ""
		}
	}
	return nil
}

// RemoteContext reports whether a context is somewhere else than in the files of this machine.
func RemoteContext(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// attr takes one attribute.
func (r *optionReader) attr(key, value string) error {
	kind, name, named := strings.Cut(key, ":")
	if named {
		return r.namedAttr(kind, name, value)
	}
	switch key {
	case "filename", "context", "contextkey", "dockerfilekey", "requestid", "frontend.caps", "source", "cmdline", "multi-platform", "cache-imports", "cache-from",
		"image-resolve-mode", "linktarget", "build-contexts":
		if key == "image-resolve-mode" && value == "pull" {
			r.o.Pull = forge.PullAlways
		}
	case "target":
		r.o.Target = value
	case "platform":
		if value != "" {
			r.o.Platforms = strings.Split(value, ",")
		}
	case "no-cache":
		if value == "" {
			r.o.NoCache = true
		} else {
			r.o.NoCacheFilter = strings.Split(value, ",")
		}
	case "add-hosts":
		return r.list(value, func(field string) {
			r.o.AddHosts = append(r.o.AddHosts, strings.Replace(field, "=", ":", 1))
		})
	case "shm-size":
		r.o.ShmSize = value
	case "ulimit":
		return r.list(value, func(field string) { r.o.Ulimits = append(r.o.Ulimits, field) })
	case "force-network-mode":
		r.o.Network = value
		if value == "sandbox" {
			r.o.Network = "default"
		}
	default:
		return fmt.Errorf("option %s of the build is not known here", key)
	}
	return nil
}

// namedAttr takes an attribute that has a name.
func (r *optionReader) namedAttr(kind, name, value string) error {
	switch kind {
	case "build-arg":
		r.o.Args[name] = value
	case "label":
		r.o.Labels = append(r.o.Labels, name+"="+value)
	case "context":
		return r.namedContext(name, value)
	case "attest":
		return r.attest(name, value)
	case "sharedkey", "local-sessionid": // for the lender
	case "vcs", "localdir", "input-metadata", "build-context", "dockerfile", "frontend":
		// what is only told to be written down
	default:
		return fmt.Errorf("option %s:%s of the build is not known here", kind, name)
	}
	return nil
}

// attest notes an attestation. One that is inline-only goes into the history of builds, which forge has anyway.
func (r *optionReader) attest(kind, value string) error {
	spec := "type=" + kind
	inline := false
	err := r.list(value, func(field string) {
		switch {
		case field == "inline-only=true":
			inline = true
		case strings.HasPrefix(field, "inline-only="), strings.HasPrefix(field, "version="), strings.HasPrefix(field, "generator="):
		default:
			spec += "," + field
		}
	})
	if !inline {
		r.attests = append(r.attests, spec)
	}
	return err
}

// list calls fn for each field of a line of CSV.
func (r *optionReader) list(value string, fn func(field string)) error {
	if value == "" {
		return nil
	}
	fields, err := words.Fields(value)
	for _, f := range fields {
		fn(f)
	}
	return err
}

// namedContext notes a named context.
func (r *optionReader) namedContext(name, value string) error {
	name, _, _ = strings.Cut(name, "::") // of one platform
	switch kind, rest, _ := strings.Cut(value, ":"); kind {
	case "local":
		r.o.Contexts[name] = forge.ClientPrefix + rest
	case "input":
		image, err := imageOf(r.q.inputs[rest])
		if err != nil {
			return fmt.Errorf("context %s: %w", name, err)
		}
		r.o.Contexts[name] = "docker-image://" + image
	case "oci-layout", "docker-image", "target":
		r.o.Contexts[name] = value
	default:
		if !RemoteContext(value) {
			return fmt.Errorf("context %s: %s is none of a directory of the client, an image, a repository or a URL", name, value)
		}
		r.o.Contexts[name] = value
	}
	return nil
}

// caches notes where what was built is kept for other machines.
func (r *optionReader) caches(c *cacheOptions) error {
	imports := r.q.imports
	if c != nil {
		for _, e := range c.Exports {
			if e.Type == "local" { // the client removes what its new index does not name
				e.Attrs = maps.Clone(e.Attrs)
				delete(e.Attrs, "reset")
			}
			spec, err := forge.ParseCacheTo(cacheText(e))
			if err != nil {
				return err
			}
			r.o.To = append(r.o.To, spec)
		}
		if len(c.Imports) > 0 {
			imports = c.Imports
		}
	}
	if text := r.q.attrs["cache-imports"]; text != "" && len(imports) == 0 {
		if err := json.Unmarshal([]byte(text), &imports); err != nil {
			return fmt.Errorf("cache-imports: %w", err)
		}
	}
	for _, e := range imports {
		spec, err := forge.ParseCacheFrom(cacheText(e))
		if err != nil {
			return err
		}
		r.o.From = append(r.o.From, spec)
	}
	if len(r.o.From)+len(r.o.To) > 0 {
		r.o.Cache = ""
	}
	return nil
}

// cacheText is a place of a cache as docker's flags say it.
func cacheText(e exporter) string {
	fields := []string{"type=" + e.Type}
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		if v := e.Attrs[k]; k != "type" {
			fields = append(fields, k+"="+v)
		}
	}
	return words.JoinFields(fields)
}

// epoch reads SOURCE_DATE_EPOCH.
func (r *optionReader) epoch() error {
	text := r.o.Args["SOURCE_DATE_EPOCH"]
	if text == "" || text == "context" {
		return nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: must be seconds since 1970, or \"context\"", text)
	}
	t := time.Unix(seconds, 0).UTC()
	r.o.Epoch = &t
	return nil
}
