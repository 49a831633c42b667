package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
)

// executorCmd holds kaniko's flags (version 1.28) under kaniko's names, and translates them into those of build.
type executorCmd struct {
	executorSource
	executorResult
	executorCache
	executorRegistry
	executorQuiet
	Secret    []string `sep:"none" help:"Secret for RUN --mount=type=secret." placeholder:"id=ID[,src=FILE|env=VAR]"`
	Verbosity string   `short:"v" help:"trace, debug, info, warn, error, fatal or panic." default:"info" placeholder:"LEVEL"`
	LogFormat string   `help:"text, color or json." enum:"text,color,json" default:"text" placeholder:"FORMAT"`
	Dryrun    bool     `help:"Show the steps, and do nothing."`
}

type executorSource struct {
	Dockerfile     string   `short:"f" help:"Build file; relative to the working directory or to the context." default:"Dockerfile" placeholder:"FILE"`
	Context        string   `short:"c" help:"Directory, dir://, tar://, git:// or https://." default:"/workspace/" placeholder:"CONTEXT"`
	ContextSubPath string   `help:"Directory in the context." placeholder:"PATH"`
	Bucket         string   `short:"b" hidden:""`
	Git            string   `help:"How a repository is cloned." placeholder:"branch=NAME,…"`
	BuildArg       []string `sep:"none" help:"Value of an ARG; without a value, the environment's." placeholder:"K[=V]"`
	Target         []string `help:"Stage to build." placeholder:"STAGE"`
	CustomPlatform string   `aliases:"customPlatform" help:"Platform to build for." placeholder:"OS/ARCH"`
}

type executorResult struct {
	Destination      []string `short:"d" sep:"none" help:"Name to push the image as." placeholder:"NAME"`
	NoPush           bool     `help:"Do not push." env:"KANIKO_NO_PUSH"`
	TarPath          string   `aliases:"tarPath" help:"Write the image as an archive, too." placeholder:"FILE"`
	OCILayoutPath    string   `name:"oci-layout-path" help:"Write the image into an OCI layout, too." placeholder:"DIR"`
	Label            []string `sep:"none" help:"Label of the image." placeholder:"K=V"`
	Annotation       []string `sep:"none" help:"Annotation of the image's manifest." placeholder:"K=V"`
	SingleSnapshot   bool     `help:"Make one layer of all those above the base image."`
	Reproducible     bool     `help:"Give files and image the time 0."`
	Compression      string   `help:"gzip or zstd." placeholder:"HOW"`
	CompressionLevel int      `help:"Level of compression." default:"-1" placeholder:"N"`
	ImageFormat      string   `help:"oci." placeholder:"FORMAT"`
	executorFiles
}

type executorFiles struct {
	DigestFile                 string `help:"Write the image's digest to a file." placeholder:"FILE"`
	ImageNameWithDigestFile    string `help:"Write name@digest to a file." placeholder:"FILE"`
	ImageNameTagWithDigestFile string `help:"Write name:tag@digest to a file." placeholder:"FILE"`
}

type executorCache struct {
	Cache       bool   `help:"Use a cache in a registry, and fill it."`
	CacheRepo   string `help:"Repository of the cache, or oci:DIR; the image's own if not given." placeholder:"REPOSITORY"`
	NoPushCache bool   `help:"Only read the cache."`
}

type executorRegistry struct {
	Insecure          bool `help:"Allow http, and TLS without verification."`
	InsecurePull      bool `hidden:""`
	SkipTLSVerify     bool `name:"skip-tls-verify" hidden:""`
	SkipTLSVerifyPull bool `name:"skip-tls-verify-pull" hidden:""`

	InsecureRegistry            []string `help:"Registry that is spoken to with http or without verification." placeholder:"HOST"`
	SkipTLSVerifyRegistry       []string `name:"skip-tls-verify-registry" help:"The same." placeholder:"HOST"`
	RegistryMirror              []string `help:"Registry to ask in the place of Docker Hub." env:"KANIKO_REGISTRY_MIRROR" placeholder:"HOST"`
	RegistryMap                 string   `help:"Registries to ask in the place of others." env:"KANIKO_REGISTRY_MAP" placeholder:"HOST=HOST[;…]"`
	SkipDefaultRegistryFallback bool     `help:"Ask no registry that has mirrors."`
	RegistryCertificate         []string `hidden:""`
	RegistryClientCert          []string `hidden:""`
	CredentialHelpers           []string `help:"Who is asked for a login that no file has: env, google, ecr, acr, gitlab; empty for none." default:"env,google,ecr,acr,gitlab" placeholder:"NAME,…"`
}

// executorQuiet are flags about how kaniko works, which forge does not, or about what is so anyway.
type executorQuiet struct {
	Force, Cleanup, PreCleanup, UseNewRun, LogTimestamp, Materialize, PreserveContext, ForceBuildMetadata, SkipUnusedStages,
	SkipPushPermissionCheck, PushIgnoreImmutableTagErrors, CacheCopyLayers bool `hidden:""`
	CompressedCaching, CacheRunLayers bool `hidden:"" default:"true"`
	IgnoreVarRun                      bool `hidden:"" default:"true" aliases:"whitelist-var-run"`

	PushRetry, ImageFSExtractRetry, ImageDownloadRetry int `hidden:""`

	KanikoDir, CacheDir, CacheTTL string   `hidden:""`
	SnapshotMode                  string   `hidden:"" aliases:"snapshotMode"`
	IgnorePath                    []string `hidden:""`
}

// Run builds with the flags of build.
func (c *executorCmd) Run(s *session) error {
	context, stdin, err := c.context(s)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return badUsage(err)
	}
	if stdin != s.in {
		defer stdin.Close()
	}
	forget, err := c.registries()
	if err != nil {
		return err
	}
	defer forget()
	scratch := ""
	if c.OCILayoutPath != "" {
		if scratch, err = os.MkdirTemp("", "forge-executor-"); err != nil {
			return err
		}
		defer os.RemoveAll(scratch)
	}
	build, err := parseBuild(append(c.args(context, filepath.Join(scratch, "image.oci")), "--", context))
	if err != nil {
		return badUsage(err)
	}
	o, err := build.options(s)
	if err != nil {
		return err
	}
	o.Stdin = stdin
	o.ReadOnly = c.NoPushCache
	o.CredentialHelpers = c.helpers()
	o.Insecure = c.Insecure || c.InsecurePull || c.SkipTLSVerify || c.SkipTLSVerifyPull
	return s.withHome(func(h *forge.Home) error {
		if c.Dryrun {
			return build.plan(s, h, o)
		}
		r, err := build.once(s, h, o)
		if err != nil {
			return err
		}
		h.KeepMounts(s.ctx, build.afterwards(s))
		return c.finish(s, r, filepath.Join(scratch, "image.oci"))
	})
}

// parseBuild reads arguments of build.
func parseBuild(args []string) (*buildCmd, error) {
	build := &buildCmd{}
	k, err := kong.New(&struct{ Help helpFlag }{}, kong.Name("forge"), kong.NoDefaultHelp(), kong.KindMapper(reflect.String, kong.MapperFunc(keepBytes)),
		kong.DynamicCommand("build", "", "", build))
	if err == nil {
		_, err = k.Parse(plainWords(k.Model.Node, append([]string{"build"}, args...)))
	}
	return build, err
}

// check refuses what would not be done.
func (c *executorCmd) check() error {
	switch {
	case len(c.Destination) == 0 && !c.NoPush:
		return errors.New("you must provide --destination, or use --no-push")
	case len(c.Destination) == 0 && c.ImageNameWithDigestFile+c.ImageNameTagWithDigestFile != "":
		return errors.New("--image-name-with-digest-file and --image-name-tag-with-digest-file need a --destination")
	case c.Cache && c.NoPush && !c.NoPushCache && c.CacheRepo == "":
		return errors.New("if using cache with --no-push, specify cache repo with --cache-repo")
	case len(c.Target) > 1:
		return fmt.Errorf("--target: %d stages: one build makes one image: build each", len(c.Target))
	case c.ImageFormat != "" && c.ImageFormat != "oci":
		return fmt.Errorf("--image-format %s: images are written in the format of OCI only", c.ImageFormat)
	case len(c.RegistryCertificate) > 0:
		return errors.New("--registry-certificate: put the file into /etc/docker/certs.d/HOST, as ca.crt")
	case len(c.RegistryClientCert) > 0:
		return errors.New("--registry-client-cert: put the files into /etc/docker/certs.d/HOST, as client.cert and client.key")
	case c.SkipDefaultRegistryFallback && len(c.RegistryMirror) > 1:
		return errors.New("--skip-default-registry-fallback: goes with one --registry-mirror")
	}
	if err := forge.CheckCredentialHelpers(c.helpers()); err != nil {
		return fmt.Errorf("--credential-helpers: %w", err)
	}
	return nil
}

// helpers are the names of credential helpers; kaniko takes an empty one for none.
func (c *executorCmd) helpers() []string {
	return slices.DeleteFunc(slices.Clone(c.CredentialHelpers), func(name string) bool { return name == "" })
}

// args are the flags of build.
func (c *executorCmd) args(context, archive string) (args []string) {
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				args = append(args, flag+"="+v)
			}
		}
	}
	add("--file", c.buildFile(context))
	add("--target", c.Target...)
	add("--platform", c.CustomPlatform)
	for _, arg := range c.BuildArg {
		if !strings.Contains(arg, "=") { // what is not set is empty, as in kaniko
			arg += "=" + os.Getenv(arg)
		}
		add("--build-arg", arg)
	}
	if c.Reproducible && os.Getenv("SOURCE_DATE_EPOCH") == "" {
		add("--build-arg", "SOURCE_DATE_EPOCH=0")
	}
	add("--tag", c.Destination...)
	add("--label", c.Label...)
	add("--annotation", c.Annotation...)
	add("--secret", c.Secret...)
	if c.SingleSnapshot {
		args = append(args, "--squash")
	}
	compression := ""
	if c.Compression != "" {
		compression = ",compression=" + c.Compression
	}
	if c.CompressionLevel >= 0 {
		compression += fmt.Sprintf(",compression-level=%d", c.CompressionLevel)
	}
	if c.NoPush {
		add("--output", "type=image")
	} else {
		add("--output", "type=registry"+compression)
	}
	if c.TarPath != "" {
		add("--output", "type=docker,dest="+c.TarPath)
	}
	if c.OCILayoutPath != "" {
		add("--output", "type=oci,dest="+archive+compression)
	}
	add("--progress", c.progress())
	return append(args, c.cacheArgs()...)
}

func (c *executorCmd) progress() string {
	switch {
	case slices.Contains([]string{"error", "fatal", "panic"}, c.Verbosity):
		return "quiet"
	case c.LogFormat == "json":
		return "rawjson"
	}
	return "plain"
}

// cacheArgs are the flags of the cache that follows. Without kaniko's flag there is none.
func (c *executorCmd) cacheArgs() []string {
	dir, isDir := strings.CutPrefix(c.CacheRepo, "oci:")
	switch {
	case !c.Cache:
		return []string{"--cache=none"}
	case isDir && c.NoPushCache:
		return []string{"--cache=none", "--cache-from=type=local,src=" + dir}
	case isDir:
		return []string{"--cache=none", "--cache-from=type=local,src=" + dir, "--cache-to=type=local,mode=max,dest=" + dir}
	case c.CacheRepo != "":
		return []string{"--cache=" + c.CacheRepo}
	}
	return nil // it is the image's own repository
}
