package planner

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// run makes a Run of a RUN.
func (w *walker) run(t *instructions.RunCommand, sources []*stage) error {
	op := &Run{
		Dir:      w.stage.workingDir(),
		User:     w.state.config.Config.User,
		Proxy:    w.p.proxy,
		Platform: platforms.Format(*w.stage.platform),
	}
	summary, err := w.runArgs(op, t)
	if err != nil {
		return err
	}
	if err := w.permissions(op, t); err != nil {
		return err
	}
	var reads []*Step
	if op.Mounts, err = w.mounts(t, sources, &reads); err != nil {
		return err
	}
	op.Env = w.env()
	for _, m := range op.Mounts {
		if _, set := w.state.vars.Get("SSH_AUTH_SOCK"); m.Type == SSH && !set {
			op.Env = append(slices.Clip(op.Env), "SSH_AUTH_SOCK="+m.Target)
			w.p.expandedBytes += 4 * len(op.Env)
			break
		}
	}
	if w.p.opt.Request != nil {
		op.Request = w.p.opt.Request(op)
	}
	lex := *w.p.lex // keeps quotes, escapes and what is not set: the text stays the command that runs
	lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	name := w.nameOf(&lex, t.String()+summary, w.masked(op.Mounts))
	w.do(op, reads, name, "RUN "+w.runText(op.Args)+" # buildkit")
	return nil
}

// runArgs sets the command line, and a file to run if the command is a script. It returns what the name says of a
// heredoc.
func (w *walker) runArgs(op *Run, t *instructions.RunCommand) (summary string, err error) {
	args := t.CmdLine
	if len(t.Files) > 0 {
		if len(args) != 1 || !t.PrependShell {
			return "", fmt.Errorf("parsing produced an invalid run command: %v", args)
		}
		if bk.MustParseHeredoc(args[0]) == nil { // the shell's own business
			text := args[0]
			for _, f := range t.Files {
				text += "\n" + f.Data + f.Name
			}
			args = []string{text}
		} else {
			file := t.Files[0]
			summary = " (" + firstLine(file.Data) + ")"
			body := file.Data
			if file.Chomp {
				body = bk.ChompHeredocContent(body)
			}
			args = []string{body}
			if strings.HasPrefix(body, "#!") {
				if file.Name != path.Base(file.Name) || file.Name == ".." || file.Name == "." {
					return "", fmt.Errorf("heredoc %s: a script's name cannot be a path", file.Name)
				}
				op.Files = []File{{Name: file.Name, Content: body}}
				args = []string{path.Join(ScriptDir, file.Name)}
			}
		}
	}
	if t.PrependShell {
		args = w.shellForm(args)
	}
	op.Args = args
	return summary, nil
}

func firstLine(text string) string {
	first, _, more := strings.Cut(strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n"), "\n")
	if more {
		first += "..."
	}
	return first
}

// runText is a command line for the history: after the declared args, with the values that they have by now.
func (w *walker) runText(args []string) string {
	var texts []string
	at := map[string]int{}
	for _, a := range w.state.args {
		value, ok := w.state.vars.Get(a.Key)
		if !ok {
			value = a.ValueString()
		}
		text := a.Key + "=" + value
		if i, ok := at[a.Key]; ok {
			texts[i] = text
			continue
		}
		at[a.Key] = len(texts)
		texts = append(texts, text)
	}
	if len(texts) > 0 {
		texts = append([]string{fmt.Sprintf("|%d", len(texts))}, texts...)
	}
	return strings.Join(append(texts, args...), " ")
}

// masked are the variables for a RUN's name: those that hold a secret are not shown, not even another's value.
func (w *walker) masked(mounts []Mount) *variables {
	vars := w.state.vars
	for _, m := range mounts {
		if m.Type == Secret && m.Env != "" {
			if vars == w.state.vars {
				vars = w.state.vars.clone()
			}
			vars.set(m.Env, "****")
		}
	}
	return vars
}

// proxyList are the proxy variables among the command line's args, in both cases and BuildKit's order.
func proxyList(args map[string]string) []string {
	keys := slices.Sorted(maps.Keys(args)) // where both cases are given, the lower one wins
	var list []string
	for _, name := range [...]string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"} {
		value := ""
		for _, key := range keys {
			if strings.EqualFold(key, name) {
				value = args[key]
			}
		}
		if value != "" {
			list = append(list, strings.ToUpper(name)+"="+value, name+"="+value)
		}
	}
	return list
}

// permissions sets network, security and devices, which need entitlements if they reach out of the sandbox.
func (w *walker) permissions(op *Run, t *instructions.RunCommand) error {
	op.Hostname = w.p.opt.BuildArgs["BUILDKIT_SANDBOX_HOSTNAME"]
	op.Network = instructions.GetNetwork(t)
	if op.Network == instructions.NetworkDefault && w.p.opt.Network != "" {
		op.Network = w.p.opt.Network
	}
	if op.Network == "host" && w.p.opt.Network != "host" { // of the command line, it is the caller's own word
		if err := w.need("network.host"); err != nil {
			return err
		}
	}
	op.Insecure = instructions.GetSecurity(t) == instructions.SecurityInsecure
	if op.Insecure {
		if err := w.need("security.insecure"); err != nil {
			return err
		}
	}
	for _, d := range instructions.GetDevices(t) {
		if d.Name == "" {
			return errors.New("RUN --device has no name")
		}
		op.Devices = append(op.Devices, Device{Name: d.Name, Required: d.Required})
	}
	return nil
}
