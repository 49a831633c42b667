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
	file, err := forge.ReadBake(s.ctx, c.files(), s.in, vars)
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
		return found.Print(jsonWriter{s.out})
	}
	names := slices.Sorted(maps.Keys(found.Targets))
	allowed, err := parseAllowed(c.Allow)
	if err != nil {
		return badUsage(err)
	}
	defaults, err := parseBuild([]string{"."})
	if err != nil {
		return err
	}
	var targets []forge.Target
	asked := map[string][]forge.Target{} // by the question
	for _, name := range names {
		t, err := c.target(s, found.Targets[name], allowed, defaults)
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
	return c.make(s, c.builder(*defaults), targets, asked)
}

// make builds targets, and answers what is asked about others.
func (c *bakeCmd) make(s *session, build *buildCmd, targets []forge.Target, asked map[string][]forge.Target) error {
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
func (c *bakeCmd) builder(build buildCmd) *buildCmd {
	build.Progress, build.Check, build.Affected = c.Progress, c.Check, c.Affected
	if c.Progress == "none" {
		build.Progress = "quiet"
	}
	build.traceFlags, build.reportFlags, build.explainFlags = c.traceFlags, c.reportFlags, c.explainFlags
	return &build
}

// target makes a build of a target: what build would be told with flags, over their defaults.
func (c *bakeCmd) target(s *session, t *forge.BakeTarget, allowed allowance, defaults *buildCmd) (forge.Target, error) {
	out := forge.Target{Name: t.Name, From: map[string]string{}}
	build := *defaults // a copy: each target has flags of its own
	fillFlags(&build, t)
	fillSources(&build, t, &out)
	if build.Context == "-" || build.File == "-" && !t.Inline() {
		return out, errors.New("standard input is no context or build file of a target")
	}
	build.Explain = c.Explain
	o, err := build.options(s)
	if err != nil {
		return out, err
	}
	if err := allowed.check(&o); err != nil {
		return out, err
	}
	if t.Inline() {
		o.Stdin = strings.NewReader(t.Text("dockerfile-inline"))
	}
	o.MetadataFile = c.MetadataFile
	out.BuildOptions = o
	return out, nil
}

// fillSources sets what a build reads. Contexts that are other targets are put into out.
func fillSources(build *buildCmd, t *forge.BakeTarget, out *forge.Target) {
	context, remote := localContext(t.Text("context"))
	build.Context = context
	dockerfile, here := strings.CutPrefix(t.Text("dockerfile"), "cwd://")
	switch {
	case t.Inline():
		build.File = "-"
	case dockerfile == "Dockerfile":
	case remote || here || filepath.IsAbs(dockerfile) || forge.IsRemote(dockerfile):
		build.File = dockerfile
	default:
		build.File = filepath.Join(context, dockerfile)
	}
	contexts := map[string]string{}
	for name, from := range t.Texts("contexts") {
		if target, ok := strings.CutPrefix(from, "target:"); ok {
			out.From[strings.ToLower(name)] = target
			continue
		}
		if !strings.HasPrefix(from, "docker-image://") && !strings.HasPrefix(from, "oci-layout://") {
			from, _ = localContext(from)
		}
		contexts[name] = from
	}
	build.BuildContext = joined(contexts, "=")
	build.Target, build.BuildArg, build.Platform = t.Text("target"), joined(t.Texts("args"), "="), t.List("platforms")
	build.NoCache, build.NoCacheFilter = t.Is("no-cache"), t.List("no-cache-filter")
	if t.Is("pull") {
		build.Pull = pullFlag(forge.PullAlways)
	}
}

// fillFlags sets what commands are given, and what becomes of the image.
func fillFlags(build *buildCmd, t *forge.BakeTarget) {
	build.Tag, build.Label, build.Annotation = t.List("tags"), joined(t.Texts("labels"), "="), t.List("annotations")
	build.Allow, build.Ulimits, build.ShmSize = t.List("entitlements"), t.List("ulimits"), t.Text("shm-size")
	if network := t.Text("network"); network != "" {
		build.Network = network
	}
	hosts := t.Texts("extra-hosts")
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		for address := range strings.SplitSeq(hosts[host], ",") {
			build.AddHosts = append(build.AddHosts, host+":"+address)
		}
	}
	for _, e := range t.Entries("secret") {
		build.Secrets = append(build.Secrets, e.Spec("id"))
	}
	for _, e := range t.Entries("ssh") {
		spec := e.Get("id")
		if paths := e.Paths(); len(paths) > 0 {
			spec += "=" + strings.Join(paths, ",")
		}
		build.SSH = append(build.SSH, spec)
	}
	for name, flag := range map[string]*[]string{"cache-from": &build.CacheFrom, "cache-to": &build.CacheTo, "output": &build.Output, "attest": &build.Attest} {
		for _, e := range t.Entries(name) {
			*flag = append(*flag, e.Spec("type"))
		}
	}
}

// joined are the pairs of a map, in the order of their names.
func joined(m map[string]string, separator string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+separator+m[k])
	}
	return list
}

// localContext is a context as build takes it, and whether it is no directory of this machine.
func localContext(context string) (string, bool) {
	if dir, ok := strings.CutPrefix(context, "cwd://"); ok {
		return filepath.Clean(dir), false
	}
	if forge.IsRemote(context) {
		return context, true
	}
	return filepath.Clean(context), false
}

// list lists targets or variables, as buildx does.
func (c *bakeCmd) list(s *session, file *forge.BakeFile) error {
	what, format := c.List, "table"
	if strings.ContainsAny(c.List, "=,") {
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
	var value any
	var rows [][]string
	switch what {
	case "targets":
		value, rows = targetRows(file)
	case "variables":
		value, rows = variableRows(file)
	default:
		return badUsage(fmt.Errorf("--list %s: must be targets or variables", c.List))
	}
	if format == "json" {
		enc := json.NewEncoder(jsonWriter{s.out})
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	w := tabwriter.NewWriter(s.out, 1, 8, 1, '\t', 0)
	for _, r := range rows {
		for i, cell := range r {
			r[i] = clean(cell)
		}
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// targetRows are targets and groups, for JSON and as a table. A name that begins with _ is private.
func targetRows(file *forge.BakeFile) (any, [][]string) {
	type row struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
		Group       bool   `json:"group,omitempty"`
	}
	all := []row{}
	members := map[string]string{}
	for _, t := range file.Targets {
		all = append(all, row{t.Name, t.Text("description"), false})
	}
	for _, g := range file.Groups {
		all = append(all, row{g.Name, g.Description, true})
		members[g.Name] = strings.Join(g.Targets, ", ")
	}
	all = slices.DeleteFunc(all, func(r row) bool { return strings.HasPrefix(r.Name, "_") })
	slices.SortStableFunc(all, func(a, b row) int { return strings.Compare(a.Name, b.Name) })
	table := [][]string{{"TARGET", "DESCRIPTION"}}
	for _, r := range all {
		if r.Group && r.Description == "" {
			table = append(table, []string{r.Name, members[r.Name]})
			continue
		}
		table = append(table, []string{r.Name, r.Description})
	}
	return all, table
}

// variableRows are variables, for JSON and as a table.
func variableRows(file *forge.BakeFile) (any, [][]string) {
	all := slices.Clone(file.Variables)
	slices.SortFunc(all, func(a, b forge.BakeVariable) int { return strings.Compare(a.Name, b.Name) })
	table := [][]string{{"VARIABLE", "TYPE", "VALUE", "DESCRIPTION"}}
	for _, v := range all {
		text := "<null>"
		if v.Value != nil {
			text = *v.Value
		}
		table = append(table, []string{v.Name, v.Type, text, v.Description})
	}
	return all, table
}
