package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/term"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

// buildCmd holds docker's flags under docker's names.
type buildCmd struct {
	Context string   `arg:"" optional:"" help:"Directory, URL of a tar or repository, or - for standard input." placeholder:"CONTEXT"`
	Args    []string `arg:"" optional:"" help:"More contexts, each with a build file of its own, to be built together; with --run, arguments of the container." placeholder:"CONTEXTS"`
	sourceFlags
	cacheFlags
	forge.StepOptions
	forge.LimitOptions
	resultFlags
	reportFlags
	forge.ClusterOptions
	forge.ServerOptions
	shellFlags
	traceFlags

	Plan   bool   `help:"Show the steps and which are cached, and do nothing."`
	Format string `help:"Of --plan: text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`
	Check  bool   `help:"Only look for mistakes."`
	Call   string `help:"Ask about the build: build, check, outline, targets or context." default:"build" placeholder:"QUESTION"`
	Start  bool   `name:"run" help:"Run what was built, as run --rm does; arguments follow the context, behind --."`
	affectedFlag
	Verify bool `help:"Build twice from nothing and list the files that differ."`

	dockerFlags
}

// sourceFlags say what to build, and what of earlier builds to use.
type sourceFlags struct {
	File          string   `short:"f" help:"Build file; - is standard input." placeholder:"FILE"`
	Target        string   `help:"Stage to build." placeholder:"STAGE"`
	BuildArg      []string `sep:"none" help:"Value of an ARG; without a value, the environment's." placeholder:"K[=V]"`
	BuildContext  []string `sep:"none" help:"Another context: a directory, URL, docker-image://, oci-layout:// or target:." placeholder:"NAME=SOURCE"`
	Platform      []string `env:"DOCKER_DEFAULT_PLATFORM" help:"Platforms to build for." placeholder:"OS/ARCH"`
	Reproducible  bool     `help:"Take SOURCE_DATE_EPOCH from the context's git commit if it is not set."`
	NoCache       bool     `help:"Do every step again."`
	NoCacheFilter []string `help:"Do the steps of these stages again." placeholder:"STAGE"`
	Pull          pullFlag `help:"Ask registries for base images: always, missing or never; alone it is always." placeholder:"WHEN"`
	Offline       bool     `help:"Ask no registry, server or repository: what is not here is an error."`
	Lock          bool     `help:"Write to forge.lock, beside the build file, what tags of images, URLs and refs of repositories stand for; where the file is, it is used."`
	Update        bool     `help:"Find out anew what forge.lock says of this build, and write it."`
	explainFlags
}

// resultFlags say what to make of the image, and what to tell.
type resultFlags struct {
	Tag          []string `short:"t" sep:"none" help:"Name of the image, user/app:tag; for several contexts, {name} in it is the last part of each one's path." placeholder:"NAME"`
	Label        []string `sep:"none" help:"Label of the image." placeholder:"K=V"`
	Annotation   []string `sep:"none" help:"Annotation of the image's manifest." placeholder:"K=V"`
	Squash       bool     `help:"Make one layer of all those above the base image."`
	Output       []string `short:"o" sep:"none" help:"What to make: type=docker|oci|tar|local|image[,dest=PATH]." placeholder:"OUTPUT"`
	Load         bool     `help:"Keep the image in the store, as without any output."`
	Push         bool     `help:"Push the image under its names."`
	Quiet        bool     `short:"q" help:"Print only the image's ID."`
	IIDFile      string   `name:"iidfile" help:"Write the image's ID to a file." placeholder:"FILE"`
	MetadataFile string   `help:"Write what was made to a file, as JSON." placeholder:"FILE"`
	SBOM         boolFlag `name:"sbom" help:"Attach a list of the packages in the image, as SPDX." placeholder:"true|false"`
	Provenance   boolFlag `help:"Attach where the image came from, as SLSA: true, false, mode=min or mode=max." placeholder:"mode=min|max"`
	Attest       []string `sep:"none" help:"The same in docker's words: type=sbom or type=provenance[,mode=max]." placeholder:"type=TYPE"`
	Progress     string   `help:"How to show progress: auto, plain, tty, rawjson or quiet." enum:"auto,plain,tty,rawjson,quiet" default:"auto" env:"BUILDKIT_PROGRESS" placeholder:"HOW"`
}

// dockerFlags are those that ask for what is so anyway, or for what forge cannot give.
type dockerFlags struct {
	ForceRm      bool   `hidden:""`
	Rm           bool   `hidden:""`
	Compress     bool   `hidden:""`
	Builder      string `hidden:""`
	CgroupParent string `hidden:""`
	trustFlags
}

// trustFlags are docker's for signatures of images.
type trustFlags struct {
	DisableContentTrust bool `hidden:"" default:"true" negatable:""`
}

func (f *trustFlags) check() error {
	if !f.DisableContentTrust {
		return errors.New("--disable-content-trust=false: forge does not check or make signatures of docker content trust: name images by digest")
	}
	return nil
}

// check refuses what would not be done. That the containers of steps are removed, and a context is not sent anywhere, is so anyway.
func (f *dockerFlags) check() error {
	if f.CgroupParent != "" {
		return fmt.Errorf("--cgroup-parent %s: the cgroups of RUN are below that of forge itself: start forge in the one that is meant, such as with systemd-run --scope --slice", f.CgroupParent)
	}
	return cmp.Or(f.trustFlags.check(), checkBuilder(f.Builder))
}

func (c *buildCmd) Run(s *session) error {
	if c.Why != "" {
		return c.why(s)
	}
	if c.Context == "" {
		return badUsage(errors.New("build needs a context: forge build [flags] DIRECTORY|URL|-"))
	}
	o, err := c.options(s)
	if err != nil {
		return err
	}
	if len(c.Args) > 0 && !c.Start || c.Affected != "" {
		return c.many(s, o)
	}
	return s.withHome(func(h *forge.Home) error {
		question, _, _ := strings.Cut(c.Call, ",")
		switch {
		case c.Check || question == "check" || question == "lint":
			return c.check(s, h, o)
		case question == "outline" || question == "targets" || question == "context":
			return c.call(s, h, o)
		case c.Call != "build" && c.Call != "":
			return badUsage(fmt.Errorf("--call=%s: must be build, check, outline, targets or context", c.Call))
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
	build := c.once
	ask, err := c.wanted(s, c)
	if err != nil {
		return err
	}
	if ask {
		build = c.buildByHand
	}
	r, err := build(s, h, o)
	if err != nil {
		return err
	}
	if !c.Start && (c.Quiet || c.Progress == "quiet") {
		_, _ = fmt.Fprintln(s.out, r.ID())
	}
	h.KeepMounts(s.ctx, c.afterwards(s))
	if c.Start {
		return c.start(s, h, r)
	}
	return nil
}

// once builds, and shows how.
func (c *buildCmd) once(s *session, h *forge.Home, o forge.BuildOptions) (*forge.BuildResult, error) {
	results, err := c.all(s, h, []forge.Target{{BuildOptions: o}})
	if len(results) == 0 {
		return nil, err
	}
	return results[0], err
}

// all builds targets, and shows how.
func (c *buildCmd) all(s *session, h *forge.Home, targets []forge.Target) ([]*forge.BuildResult, error) {
	tracer, err := c.tracer()
	if err == nil {
		err = c.fill()
	}
	if err != nil {
		return nil, err
	}
	show := &ui.Report{Display: c.progress(s), Root: root()}
	targets[0].Events = tracer.watch(c.explained(s, show.Event))
	results, err := h.BuildAll(s.ctx, targets)
	err = errors.Join(err, tracer.write(s, h))
	if err != nil {
		show.Close()
		show.Fail(err)
		return results, errors.Join(err, c.tell(s, show))
	}
	if results[0].Stopped != nil {
		show.Close()
		return results, nil
	}
	var lines []string
	for _, r := range results {
		lines = append(lines, outcome(r)...)
	}
	show.Close(lines...)
	return results, c.tell(s, show)
}

// start runs what was built, with what follows the context as its arguments, as run --rm does.
func (c *buildCmd) start(s *session, h *forge.Home, r *forge.BuildResult) error {
	run := runCmd{SigProxy: true}
	run.DisableContentTrust = true // which is so
	run.AutoRemove, run.Pull = true, "never"
	run.Interactive, run.TTY = term.IsTerminal(int(s.in.Fd())), term.IsTerminal(int(s.in.Fd()))
	run.Command = append([]string{r.ID().String()}, c.Args...)
	return run.run(s, h)
}

// outcome is what a build made, in words: of it, its names, its size, what it took, and its ID; and where it was pushed to.
func outcome(r *forge.BuildResult) []string {
	names := make([]string, len(r.Tags))
	for i, ref := range r.Tags {
		names[i] = ref.Familiar()
	}
	built := strings.TrimSpace("built " + ui.Lines(r.Name))
	if len(names) > 0 {
		built += " " + strings.Join(names, ", ")
	}
	lines := []string{fmt.Sprintf("%s %s in %.1fs (%d cached, %d run) %s",
		built, ui.Size(r.Size), r.Duration.Seconds(), r.Reused, r.Done, r.ID())}
	for _, p := range r.Pushed {
		lines = append(lines, "pushed "+p.Reference.Familiar()+"@"+p.Descriptor.Digest.String())
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
