package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
)

// options turns flags into what forge.Build wants.
func (c *buildCmd) options(s *session) (forge.BuildOptions, error) {
	o := forge.BuildOptions{
		SourceOptions: forge.SourceOptions{Context: c.Context, File: c.File, Stdin: s.in, Contexts: map[string]string{}},
		Target:        c.Target, Args: map[string]string{}, Labels: c.Label, Platforms: c.Platform,
		StepOptions: c.StepOptions, LimitOptions: c.LimitOptions, ClusterOptions: c.ClusterOptions,
		ReuseOptions: forge.ReuseOptions{
			NoCache: c.NoCache, NoCacheFilter: c.NoCacheFilter, Pull: forge.PullPolicy(c.Pull), Explain: c.Explain != "",
		},
		ResultOptions: forge.ResultOptions{
			Tags: c.Tag, Annotations: map[string]string{}, Squash: c.Squash, IIDFile: c.IIDFile, MetadataFile: c.MetadataFile,
		},
	}
	o.Offline, o.Servers = c.Offline, c.ServerOptions
	o.Servers.Version = versionText()
	switch {
	case c.Update:
		o.Lock = forge.LockUpdate
	case c.Lock:
		o.Lock = forge.LockKept
	}
	errs := append(c.pairs(&o), c.checkFile())
	var err error
	o.CacheOptions, err = c.cacheFlags.options()
	errs = append(errs, err)
	o.Attest, err = forge.ParseAttest(string(c.SBOM), string(c.Provenance), c.Attest)
	o.Attest.Tool = versionText()
	errs = append(errs, err)
	o.Mounts, err = c.mounts()
	errs = append(errs, c.dockerFlags.check(), err, c.outputs(s, &o), c.epoch(s.ctx, &o))
	if err := errors.Join(errs...); err != nil {
		return o, badUsage(err)
	}
	return o, nil
}

// checkFile refuses a bake file as the build file, before its first line is taken for an unknown instruction.
func (c *buildCmd) checkFile() error {
	if !forge.IsBakeFile(c.File) || strings.Contains(c.File, "://") {
		return nil
	}
	name := c.File
	if _, err := os.Stat(name); err != nil && !filepath.IsAbs(name) && c.Context != "-" {
		name = filepath.Join(c.Context, name)
	}
	return fmt.Errorf("-f %s: is a bake file, which describes builds, and not a build file: forge bake -f %s", c.File, name)
}

// pairs takes the flags that are a name and a value each.
func (c *buildCmd) pairs(o *forge.BuildOptions) (errs []error) {
	for _, arg := range c.BuildArg {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		if name == "" {
			errs = append(errs, fmt.Errorf("--build-arg %q: has no name", arg))
		}
		errs = append(errs, checkText("--build-arg", name+"="+value))
		o.Args[name] = value
	}
	for _, spec := range c.BuildContext {
		name, source, ok := strings.Cut(spec, "=")
		if !ok || name == "" || source == "" {
			errs = append(errs, fmt.Errorf("--build-context %q: must be NAME=SOURCE", spec))
		}
		o.Contexts[strings.ToLower(name)] = source
	}
	for _, spec := range c.Annotation {
		key, value, ok := strings.Cut(spec, "=")
		if !ok || key == "" {
			errs = append(errs, fmt.Errorf("--annotation %q: must be KEY=VALUE", spec))
		}
		o.Annotations[annotationKey(key)] = value
	}
	for _, label := range c.Label {
		if strings.HasPrefix(label, "=") || label == "" {
			errs = append(errs, fmt.Errorf("--label %q: has no name", label))
		}
		errs = append(errs, checkText("--label", label))
	}
	return errs
}

// A pullFlag is docker's --pull, which may stand alone, and podman's, which has a value.
type pullFlag forge.PullPolicy

// Decode implements kong.MapperValue.
func (p *pullFlag) Decode(ctx *kong.DecodeContext) error {
	*p = pullFlag(forge.PullAlways)
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	value := fmt.Sprint(ctx.Scan.Pop().Value)
	switch value {
	case "true":
	case "false":
		*p = pullFlag(forge.PullMissing)
	case "always", "missing", "never":
		*p = pullFlag(value)
	default:
		return fmt.Errorf("%q: must be always, missing or never", value)
	}
	return nil
}

// IsBool tells kong that the value may be left out.
func (p *pullFlag) IsBool() bool { return true }

// A boolFlag is a flag that may stand alone, which is "true", or have a value.
type boolFlag string

// Decode implements kong.MapperValue.
func (f *boolFlag) Decode(ctx *kong.DecodeContext) error {
	*f = "true"
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		*f = boolFlag(fmt.Sprint(ctx.Scan.Pop().Value))
	}
	return nil
}

// IsBool tells kong that the value may be left out.
func (f *boolFlag) IsBool() bool { return true }

// annotationKey drops docker's prefix that says what is annotated: here it is the manifest, or the index of several.
func annotationKey(key string) string {
	for _, level := range []string{"manifest:", "index:", "manifest-descriptor:", "index,manifest:", "manifest,index:"} {
		if rest, ok := strings.CutPrefix(key, level); ok {
			return rest
		}
	}
	return key
}

// checkText refuses what JSON, in which an image keeps its configuration, cannot hold as it is.
func checkText(flag, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s %q: must be UTF-8", flag, text)
	}
	return nil
}

func (c *buildCmd) outputs(s *session, o *forge.BuildOptions) error {
	for _, spec := range c.Output {
		out, err := forge.ParseOutput(spec, s.out)
		if err != nil {
			return err
		}
		o.Outputs = append(o.Outputs, out)
	}
	if c.Load {
		o.Outputs = append(o.Outputs, forge.Output{Type: "image"})
	}
	if c.Push {
		if len(c.Tag) == 0 {
			return errors.New("--push: needs a name to push to: -t NAME")
		}
		if len(o.Outputs) == 0 {
			o.Outputs = append(o.Outputs, forge.Output{Type: "image", Attrs: map[string]string{"push": "true"}})
		} else {
			o.Outputs = append(o.Outputs, forge.Output{Type: "registry"})
		}
	}
	return nil
}

// epoch finds SOURCE_DATE_EPOCH: a build argument, else the environment's.
func (c *buildCmd) epoch(ctx context.Context, o *forge.BuildOptions) error {
	value, ok := o.Args["SOURCE_DATE_EPOCH"]
	if !ok {
		if value = os.Getenv("SOURCE_DATE_EPOCH"); value != "" {
			o.Args["SOURCE_DATE_EPOCH"] = value
		}
	}
	if value == "" {
		if !c.Reproducible {
			return nil
		}
		if err := o.EpochOfContext(ctx); err != nil {
			return fmt.Errorf("--reproducible: %w; set SOURCE_DATE_EPOCH", err)
		}
		return nil
	}
	if value == "context" { // the planner asks for it
		return nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: must be seconds since 1970, or \"context\"", value)
	}
	t := time.Unix(seconds, 0).UTC()
	o.Epoch = &t
	return nil
}
