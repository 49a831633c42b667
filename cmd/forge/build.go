package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// buildCmd holds docker's flags under docker's names; flags that mean nothing to forge are in ignoredBuildFlags.
type buildCmd struct {
	Context string `arg:"" optional:"" help:"Directory, URL of a tar or repository, or - for standard input." placeholder:"CONTEXT"`

	Tag          []string `short:"t" sep:"none" help:"Name of the image, user/app:tag." placeholder:"NAME"`
	File         string   `short:"f" help:"Build file; - is standard input." placeholder:"FILE"`
	Target       string   `help:"Stage to build." placeholder:"STAGE"`
	BuildArg     []string `sep:"none" help:"Value of an ARG; without a value, the environment's." placeholder:"K[=V]"`
	BuildContext []string `sep:"none" help:"Another context: a directory, URL, docker-image://, oci-layout:// or target:." placeholder:"NAME=SOURCE"`
	Label        []string `sep:"none" help:"Label of the image." placeholder:"K=V"`
	Annotation   []string `sep:"none" help:"Annotation of the image's manifest." placeholder:"K=V"`
	Platform     []string `help:"Platforms to build for." placeholder:"OS/ARCH"`

	NoCache       bool     `help:"Do every step again."`
	NoCacheFilter []string `help:"Do the steps of these stages again." placeholder:"STAGE"`
	Pull          pullFlag `help:"Ask registries for base images: always, missing or never; alone it is always." placeholder:"WHEN"`
	Squash        bool     `help:"Make one layer of all those above the base image."`

	Secret  []string `sep:"none" help:"Secret for RUN --mount=type=secret." placeholder:"id=ID[,src=FILE|env=VAR]"`
	SSH     []string `name:"ssh" sep:"none" help:"Agent or keys for RUN --mount=type=ssh." placeholder:"ID[=SOCKET|KEY]"`
	Allow   []string `help:"Grant network.host, security.insecure or device." placeholder:"ENTITLEMENT"`
	Network string   `help:"Network of RUN: default, none or host." default:"default" placeholder:"MODE"`
	AddHost []string `sep:"none" help:"Line for /etc/hosts of RUN." placeholder:"HOST:IP"`
	ShmSize string   `help:"Size of /dev/shm of RUN." placeholder:"BYTES"`
	Ulimit  []string `sep:"none" help:"Limit of RUN." placeholder:"NAME=SOFT[:HARD]"`
	Memory  string   `short:"m" help:"Memory of RUN." placeholder:"BYTES"`
	CPUs    string   `name:"cpus" help:"Processors of RUN." placeholder:"N"`

	Output       []string `short:"o" sep:"none" help:"What to make: type=docker|oci|tar|local|image[,dest=PATH]; type=local with special=true also writes device nodes, set-id bits and capabilities." placeholder:"OUTPUT"`
	Load         bool     `help:"Keep the image in the store, as without any output."`
	Push         bool     `help:"Push the image under its names."`
	Quiet        bool     `short:"q" help:"Print only the image's ID."`
	IIDFile      string   `name:"iidfile" help:"Write the image's ID to a file." placeholder:"FILE"`
	MetadataFile string   `help:"Write what was made to a file, as JSON." placeholder:"FILE"`
	Progress     string   `help:"How to show progress: auto, plain, tty, rawjson or quiet." enum:"auto,plain,tty,rawjson,quiet" default:"auto" env:"BUILDKIT_PROGRESS" placeholder:"HOW"`

	Plan         bool   `help:"Show the steps and which are cached, and do nothing."`
	Format       string `help:"Of --plan: text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`
	Explain      bool   `help:"Say of each step that ran why it was not reused."`
	Check        bool   `help:"Only look for mistakes."`
	Call         string `help:"Ask about the build: build, check, outline or targets." default:"build" placeholder:"QUESTION"`
	Reproducible bool   `help:"Take SOURCE_DATE_EPOCH from the context (the git commit of a directory or repository) if it is not set."`
	Verify       bool   `help:"Build twice from nothing and list the files that differ."`

	ignoredBuildFlags
}

// ignoredBuildFlags are docker's flags that ask for what forge has no part in. They are accepted with a warning.
type ignoredBuildFlags struct {
	ForceRm      bool     `hidden:""`
	Rm           bool     `hidden:""`
	Compress     bool     `hidden:""`
	Isolation    string   `hidden:""`
	Builder      string   `hidden:""`
	CgroupParent string   `hidden:""`
	CPUPeriod    string   `name:"cpu-period" hidden:""`
	CPUQuota     string   `name:"cpu-quota" hidden:""`
	CPUShares    string   `name:"cpu-shares" short:"c" hidden:""`
	CpusetCPUs   string   `name:"cpuset-cpus" hidden:""`
	CpusetMems   string   `name:"cpuset-mems" hidden:""`
	MemorySwap   string   `hidden:""`
	SecurityOpt  []string `sep:"none" hidden:""`
	CacheFrom    []string `sep:"none" hidden:""`
	CacheTo      []string `sep:"none" hidden:""`
	Provenance   string   `hidden:""`
	Sbom         string   `hidden:""`
	Attest       []string `sep:"none" hidden:""`

	DisableContentTrust bool `hidden:"" negatable:""`
}

// warnings names the flags that were given and mean nothing to forge.
func (f *ignoredBuildFlags) warnings() []string {
	var given []string
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"--force-rm", f.ForceRm},
		{"--compress", f.Compress},
		{"--isolation", f.Isolation != ""},
		{"--builder", f.Builder != ""},
		{"--cgroup-parent", f.CgroupParent != ""},
		{"--cpu-period", f.CPUPeriod != ""},
		{"--cpu-quota", f.CPUQuota != ""},
		{"--cpu-shares", f.CPUShares != ""},
		{"--cpuset-cpus", f.CpusetCPUs != ""},
		{"--cpuset-mems", f.CpusetMems != ""},
		{"--memory-swap", f.MemorySwap != ""},
		{"--security-opt", len(f.SecurityOpt) > 0},
		{"--cache-from", len(f.CacheFrom) > 0},
		{"--cache-to", len(f.CacheTo) > 0},
		{"--provenance", f.Provenance != ""},
		{"--sbom", f.Sbom != ""},
		{"--attest", len(f.Attest) > 0},
		{"--disable-content-trust", f.DisableContentTrust},
	} {
		if flag.set {
			given = append(given, flag.name+" has no meaning here and is ignored")
		}
	}
	return given
}

func (c *buildCmd) Run(s *session) error {
	if c.Context == "" {
		return &usageError{1, errors.New("build needs a context: forge build [flags] DIRECTORY|URL|-")}
	}
	o, err := c.options(s)
	if err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		question, _, _ := strings.Cut(c.Call, ",")
		switch {
		case c.Check || question == "check" || question == "lint":
			return c.check(s, h, o)
		case question == "outline" || question == "targets":
			return c.call(s, h, o)
		case c.Call != "build" && c.Call != "":
			return &usageError{1, fmt.Errorf("--call=%s: must be build, check, outline or targets", c.Call)}
		case c.Plan:
			return c.plan(s, h, o)
		case c.Verify:
			return c.verify(s, h, o)
		}
		return c.build(s, h, o)
	})
}

// build builds, and says what came of it the way that was asked for.
func (c *buildCmd) build(s *session, h *forge.Home, o forge.BuildOptions) error {
	for _, w := range c.warnings() {
		_, _ = fmt.Fprintln(s.err, "forge: warning:", w)
	}
	show := c.progress(s)
	o.Events = show.Event
	r, err := h.Build(s.ctx, o)
	if err != nil {
		show.Close()
		return err
	}
	show.Close(outcome(r)...)
	if c.Quiet || c.Progress == "quiet" {
		_, _ = fmt.Fprintln(s.out, r.ID())
	}
	return nil
}

// outcome is what a build made, in words.
func outcome(r *forge.BuildResult) []string {
	lines := []string{"image " + r.ID().String()}
	for _, ref := range r.Tags {
		lines = append(lines, "tagged "+ref.Familiar())
	}
	return lines
}

func (c *buildCmd) progress(s *session) ui.Display {
	how := c.Progress
	if c.Quiet {
		how = "quiet"
	}
	return ui.New(how, s.err)
}
