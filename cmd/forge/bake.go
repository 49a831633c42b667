package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/forge-build/forge"
)

// bakeCmd holds the flags of buildx's bake under its names.
type bakeCmd struct {
	Targets []string `arg:"" optional:"" help:"Targets or groups, or patterns of their names; default if none." placeholder:"TARGET"`
	File    []string `short:"f" sep:"none" help:"Bake file: HCL, JSON or compose; - is standard input. Those with the usual names if not given." placeholder:"FILE"`
	Set     []string `sep:"none" help:"Give an attribute of targets another value, or add to it with +=." placeholder:"TARGET.KEY=VALUE"`
	Var     []string `sep:"none" help:"Give a variable a value." placeholder:"NAME=VALUE"`
	Print   bool     `help:"Print what would be built, as JSON, and do nothing."`
	List    string   `help:"List what there is: targets or variables, with ,format=json as JSON." placeholder:"WHAT"`
	Load    bool     `help:"Keep the images in the store, as without any output."`
	Push    bool     `help:"Push the images under their names."`
	NoCache bool     `help:"Do every step again."`
	Pull    boolFlag `help:"Ask registries for base images." placeholder:"true|false"`
	Check   bool     `help:"Only look for mistakes."`
	Call    string   `help:"Ask about each target: build, check, outline or targets." placeholder:"QUESTION"`
	bakeResultFlags
	affectedFlag
	traceFlags
	reportFlags
	explainFlags
}

// bakeResultFlags say what to tell, and what is allowed.
type bakeResultFlags struct {
	Allow        []string `sep:"none" help:"Allow what a bake file asks for: network.host, security.insecure, device[=NAME], ssh, or fs.read, fs.write or fs and =PATH outside of this directory." placeholder:"ENTITLEMENT"`
	MetadataFile string   `help:"Write what was made to a file, as JSON, by target." placeholder:"FILE"`
	SBOM         string   `name:"sbom" help:"Attach a list of the packages in each image, as SPDX." placeholder:"true|false"`
	Provenance   string   `help:"Attach where each image came from, as SLSA: true, false, mode=min or mode=max." placeholder:"mode=min|max"`
	Progress     string   `help:"How to show progress: auto, plain, tty, rawjson or quiet." enum:"auto,plain,tty,rawjson,quiet,none" default:"auto" env:"BUILDKIT_PROGRESS" placeholder:"HOW"`
	Builder      string   `hidden:""`
	Debug        bool     `short:"D" hidden:""`
}

func (c *bakeCmd) Run(s *session) error {
	if err := checkBuilder(c.Builder); err != nil {
		return err
	}
	if c.Print && c.List != "" {
		return badUsage(errors.New("--print and --list are mutually exclusive"))
	}
	if len(c.Targets) > 0 && strings.Contains(c.Targets[0], "://") {
		return badUsage(fmt.Errorf("bake %s: bake files are read from this machine: clone the repository, and bake in it", c.Targets[0]))
	}
	vars := map[string]string{}
	for _, v := range c.Var {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return badUsage(fmt.Errorf("--var %s: must be NAME=VALUE", v))
		}
		vars[name] = value
	}
	file, err := forge.ReadBake(c.files(), s.in, vars)
	if err != nil {
		return err
	}
	if c.List != "" {
		return c.list(s, file)
	}
	found, err := file.Select(slices.Clone(c.Targets), c.overrides())
	if err != nil {
		return err
	}
	if c.Print {
		return found.Print(s.out)
	}
	names := slices.Sorted(maps.Keys(found.Targets))
	allowed, err := parseAllowed(c.Allow)
	if err != nil {
		return badUsage(err)
	}
	var targets []forge.Target
	asked := map[string][]forge.Target{} // by the question
	for _, name := range names {
		t, err := c.target(s, found.Targets[name], allowed)
		if err != nil {
			return fmt.Errorf("target %s: %w", name, err)
		}
		t.Definitions = slices.DeleteFunc(slices.Clone(file.Names), func(n string) bool { return n == "-" })
		if question := found.Targets[name].Text("call"); question != "" && question != "build" && !c.Check {
			asked[question] = append(asked[question], t)
		} else {
			targets = append(targets, t)
		}
	}
	return c.make(s, targets, asked)
}

// make builds targets, and answers what is asked about others.
func (c *bakeCmd) make(s *session, targets []forge.Target, asked map[string][]forge.Target) error {
	build, err := c.builder()
	if err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		var errs []error
		if len(targets) > 0 {
			errs = append(errs, build.make(s, h, targets))
		}
		_, format, _ := strings.Cut(c.Call, ",")
		for _, question := range slices.Sorted(maps.Keys(asked)) {
			build.Call = strings.TrimSuffix(question+","+format, ",")
			errs = append(errs, build.askEach(s, h, asked[question]))
		}
		return errors.Join(errs...)
	})
}

// files are those that are read.
func (c *bakeCmd) files() []string {
	if env := os.Getenv("BUILDX_BAKE_FILE"); len(c.File) == 0 && env != "" {
		separator := os.Getenv("BUILDX_BAKE_PATH_SEPARATOR")
		if separator == "" {
			separator = string(os.PathListSeparator)
		}
		return strings.Split(env, separator)
	}
	return c.File
}

// overrides are --set, and the flags that are short for one.
func (c *bakeCmd) overrides() []string {
	set := slices.Clone(c.Set)
	for _, flag := range []struct {
		given bool
		text  string
	}{{c.Push, "*.push=true"}, {c.Load, "*.load=true"}, {c.NoCache, "*.no-cache=true"}} {
		if flag.given {
			set = append(set, flag.text)
		}
	}
	if c.Pull != "" {
		set = append(set, "*.pull="+string(c.Pull))
	}
	if question, _, _ := strings.Cut(c.Call, ","); question != "" {
		set = append(set, "*.call="+question)
	}
	for _, attest := range [][2]string{{"sbom", c.SBOM}, {"provenance", c.Provenance}} {
		kind, value := attest[0], attest[1]
		switch value {
		case "":
		case "true", "1":
			set = append(set, "*.attest=type="+kind)
		case "false", "0":
			set = append(set, "*.attest=type="+kind+",disabled=true")
		default:
			set = append(set, "*.attest=type="+kind+","+value)
		}
	}
	return set
}

// builder is what shows the build.
func (c *bakeCmd) builder() (*buildCmd, error) {
	build, err := parseBuild([]string{"."})
	if err != nil {
		return nil, err
	}
	build.Progress, build.Check, build.Affected = c.Progress, c.Check, c.Affected
	if c.Progress == "none" {
		build.Progress = "quiet"
	}
	build.traceFlags, build.reportFlags, build.explainFlags = c.traceFlags, c.reportFlags, c.explainFlags
	return build, nil
}

// target makes a build of a target: what docker build would be told with flags.
func (c *bakeCmd) target(s *session, t *forge.BakeTarget, allowed allowance) (forge.Target, error) {
	out := forge.Target{Name: t.Name, From: map[string]string{}}
	if err := allowed.check(t); err != nil {
		return out, err
	}
	context := t.Text("context")
	if context == "-" || t.Text("dockerfile") == "-" {
		return out, errors.New("standard input is no context or build file of a target")
	}
	args, err := bakeArgs(t, &out)
	if err != nil {
		return out, err
	}
	build, err := parseBuild(args)
	if err != nil {
		return out, err
	}
	build.Explain = c.Explain
	o, err := build.options(s)
	if err != nil {
		return out, err
	}
	if t.Inline() {
		o.Stdin = strings.NewReader(t.Text("dockerfile-inline"))
	}
	o.MetadataFile = c.MetadataFile
	out.BuildOptions = o
	return out, nil
}

// bakeArgs are the arguments of a build that does what a target says. Contexts that are other targets are put into out.
func bakeArgs(t *forge.BakeTarget, out *forge.Target) ([]string, error) {
	var args []string
	add := func(flag string, values ...string) {
		for _, v := range values {
			args = append(args, "--"+flag+"="+v)
		}
	}
	pairs := func(flag, separator string, m map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			add(flag, k+separator+m[k])
		}
	}
	context, remote := localContext(t.Text("context"))
	dockerfile := strings.TrimPrefix(t.Text("dockerfile"), "cwd://")
	switch {
	case t.Inline():
		add("file", "-")
	case dockerfile == "Dockerfile":
	case remote || filepath.IsAbs(dockerfile) || strings.Contains(dockerfile, "://") || strings.HasPrefix(t.Text("dockerfile"), "cwd://"):
		add("file", dockerfile)
	default:
		add("file", filepath.Join(context, dockerfile))
	}
	pairs("build-arg", "=", t.Texts("args"))
	pairs("label", "=", t.Texts("labels"))
	for host, addresses := range t.Texts("extra-hosts") {
		for address := range strings.SplitSeq(addresses, ",") {
			add("add-host", host+":"+address)
		}
	}
	for name, from := range t.Texts("contexts") {
		if target, ok := strings.CutPrefix(from, "target:"); ok {
			out.From[strings.ToLower(name)] = target
			continue
		}
		dir, _ := localContext(from)
		add("build-context", name+"="+dir)
	}
	add("tag", t.List("tags")...)
	add("platform", t.List("platforms")...)
	add("annotation", t.List("annotations")...)
	add("no-cache-filter", t.List("no-cache-filter")...)
	add("ulimit", t.List("ulimits")...)
	add("allow", t.List("entitlements")...)
	for flag, name := range map[string]string{"target": "target", "network": "network", "shm-size": "shm-size"} {
		if v := t.Text(name); v != "" {
			add(flag, v)
		}
	}
	for _, flag := range []string{"pull", "no-cache"} {
		if t.Is(flag) {
			args = append(args, "--"+flag)
		}
	}
	for _, e := range t.Entries("secret") {
		add("secret", e.Spec("id"))
	}
	for _, e := range t.Entries("ssh") {
		spec := e.Get("id")
		if paths := e.Paths(); len(paths) > 0 {
			spec += "=" + strings.Join(paths, ",")
		}
		add("ssh", spec)
	}
	for _, flag := range []string{"cache-from", "cache-to", "output", "attest"} {
		for _, e := range t.Entries(flag) {
			add(flag, e.Spec("type"))
		}
	}
	switch call := t.Text("call"); call {
	case "", "build":
	default:
		add("call", call)
	}
	return append(args, "--", context), nil
}

// localContext is a context as build takes it, and whether it is no directory of this machine.
func localContext(context string) (string, bool) {
	if dir, ok := strings.CutPrefix(context, "cwd://"); ok {
		return filepath.Clean(dir), false
	}
	if strings.Contains(context, "://") || strings.HasPrefix(context, "git@") {
		return context, true
	}
	return filepath.Clean(context), false
}

// list lists targets or variables, as buildx does.
func (c *bakeCmd) list(s *session, file *forge.BakeFile) error {
	what, format := c.List, "table"
	if strings.Contains(c.List, "=") || strings.Contains(c.List, ",") {
		what = ""
		for i, field := range strings.Split(c.List, ",") {
			key, value, ok := strings.Cut(field, "=")
			switch {
			case ok && key == "type":
				what = value
			case ok && key == "format":
				format = value
			case !ok && i == 0:
				what = field
			default:
				return badUsage(fmt.Errorf("--list %s: unexpected %q", c.List, field))
			}
		}
	}
	if format != "table" && format != "json" {
		return badUsage(fmt.Errorf("--list: format %q must be table or json", format))
	}
	type row struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
		Group       bool   `json:"group,omitempty"`
	}
	w := tabwriter.NewWriter(s.out, 1, 8, 1, '\t', 0)
	var value any
	switch what {
	case "targets":
		rows := []row{}
		for _, t := range file.Targets {
			rows = append(rows, row{t.Name, t.Text("description"), false})
		}
		for _, g := range file.Groups {
			description := g.Description
			if description == "" && len(g.Targets) > 0 && format == "table" {
				description = strings.Join(g.Targets, ", ")
			}
			rows = append(rows, row{g.Name, description, true})
		}
		rows = slices.DeleteFunc(rows, func(r row) bool { return strings.HasPrefix(r.Name, "_") })
		slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.Name, b.Name) })
		_, _ = fmt.Fprintln(w, "TARGET\tDESCRIPTION")
		for _, r := range rows {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", r.Name, r.Description)
		}
		value = rows
	case "variables":
		vars := slices.Clone(file.Variables)
		slices.SortFunc(vars, func(a, b forge.BakeVariable) int { return strings.Compare(a.Name, b.Name) })
		_, _ = fmt.Fprintln(w, "VARIABLE\tTYPE\tVALUE\tDESCRIPTION")
		for _, v := range vars {
			text := "<null>"
			if v.Value != nil {
				text = *v.Value
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Name, v.Type, text, v.Description)
		}
		value = vars
	default:
		return badUsage(fmt.Errorf("--list %s: must be targets or variables", c.List))
	}
	if format == "table" {
		return w.Flush()
	}
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}
