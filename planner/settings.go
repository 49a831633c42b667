package planner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// lintRepeated notes where an instruction is of which only the last counts, and warns of the one before it, which does nothing.
func (w *walker) lintRepeated(last *[]bk.Range, c instructions.Command) {
	if *last != nil {
		w.lint.Run(&linter.RuleMultipleInstructionsDisallowed, *last, linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	*last = c.Location()
}

func (w *walker) setEnv(t *instructions.EnvCommand) error {
	text := "ENV"
	for _, kv := range t.Env {
		w.lintKeyValue(t, kv)
		w.lintSecret("ENV", kv.Key, t.Location())
		if err := checkValue(kv.Key, kv.Value); err != nil {
			return err
		}
		text += " " + kv.String()
		w.state.vars.set(kv.Key, kv.Value)
		w.state.config.Config.Env = setVariable(w.state.config.Config.Env, kv.Key, kv.Value)
	}
	w.remember(text)
	return nil
}

func (w *walker) label(t *instructions.LabelCommand) {
	text := []string{"LABEL"}
	if w.state.config.Config.Labels == nil {
		w.state.config.Config.Labels = map[string]string{}
	}
	for _, kv := range t.Labels {
		w.lintKeyValue(t, kv)
		w.state.config.Config.Labels[kv.Key] = kv.Value
		text = append(text, kv.String())
	}
	w.remember(strings.Join(text, " "))
}

func (w *walker) lintKeyValue(c instructions.Command, kv instructions.KeyValuePair) {
	if kv.NoDelim {
		w.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
	}
}

// lintSecret applies the rule that names which sound secret are not for ARG and ENV: a word between underscores is.
func (w *walker) lintSecret(instruction, name string, at []bk.Range) {
	words := strings.Split(name, "_")
	has := func(list ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool {
			return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
		})
	}
	if has("apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token") &&
		!has("public", "file", "version") {
		w.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, at, linter.RuleSecretsUsedInArgOrEnv.Format(instruction, name))
	}
}

// declareArgs brings ARGs into scope, each seeing those before it. The command line's value wins over the default, and
// without either the value comes from before the first FROM.
func (w *walker) declareArgs(t *instructions.ArgCommand) error {
	var texts []string
	for _, a := range t.Args {
		w.lintSecret("ARG", a.Key, t.Location())
		w.p.lintShadow(w.lint, a, t.Location())
		info := argument{Parameter: Parameter{Name: a.Key, Description: a.DocComment, Location: Location(w.at)}}
		global := false
		if given, ok := w.p.opt.BuildArgs[a.Key]; ok {
			a.Value = &given
		} else if a.Value != nil {
			value, err := w.word(w.p.lex, t, *a.Value)
			if err != nil {
				return err
			}
			a.Value = &value
		} else if value, ok := w.p.global.vars.Get(a.Key); ok {
			a.Value, global = &value, true
		}
		text := a.Key
		if a.Value != nil {
			if err := checkValue(a.Key, *a.Value); err != nil {
				return err
			}
			if !isScanArg(a.Key) {
				w.state.vars.set(a.Key, *a.Value)
			}
			info.Value = *a.Value
			text += "=" + *a.Value
		}
		if !global {
			w.state.outline.args[a.Key] = info
		}
		w.state.outline.used[a.Key] = struct{}{}
		w.state.args = append(w.state.args, a)
		texts = append(texts, text)
	}
	w.remember("ARG " + strings.Join(texts, " "))
	return nil
}

// shellForm puts the SHELL in force before a command line of one word.
func (w *walker) shellForm(args []string) []string {
	sh := w.state.config.Config.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(sh), strings.Join(args, " "))
}

// commandLine is the command of a CMD or an ENTRYPOINT.
func (w *walker) commandLine(c instructions.Command, t instructions.ShellDependantCmdLine) []string {
	if !t.PrependShell {
		return t.CmdLine
	}
	if len(w.state.config.Config.Shell) == 0 {
		w.lint.Run(&linter.RuleJSONArgsRecommended, c.Location(), linter.RuleJSONArgsRecommended.Format(c.Name()))
	}
	return w.shellForm(t.CmdLine)
}

func (w *walker) setCmd(t *instructions.CmdCommand) {
	w.lintRepeated(&w.state.cmd, t)
	args := w.commandLine(t, t.ShellDependantCmdLine)
	w.state.config.Config.Cmd = args
	w.state.config.Config.ArgsEscaped = true //nolint:staticcheck // deprecated by OCI, and what Docker's images have
	w.remember(fmt.Sprintf("CMD %q", args))
}

// setEntrypoint drops a CMD that was made for another entrypoint: an inherited one, not one of this stage.
func (w *walker) setEntrypoint(t *instructions.EntrypointCommand) {
	w.lintRepeated(&w.state.entrypoint, t)
	args := w.commandLine(t, t.ShellDependantCmdLine)
	w.state.config.Config.Entrypoint = args
	if w.state.cmd == nil {
		w.state.config.Config.Cmd = nil
	}
	w.remember(fmt.Sprintf("ENTRYPOINT %q", args))
}

func (w *walker) setHealthcheck(t *instructions.HealthCheckCommand) {
	w.lintRepeated(&w.state.healthcheck, t)
	h := dockerspec.HealthcheckConfig{
		Test:          t.Health.Test,
		Interval:      t.Health.Interval,
		Timeout:       t.Health.Timeout,
		StartPeriod:   t.Health.StartPeriod,
		StartInterval: t.Health.StartInterval,
		Retries:       t.Health.Retries,
	}
	w.state.config.Config.Healthcheck = &h
	w.remember(fmt.Sprintf("HEALTHCHECK %+v", h))
}

func (w *walker) stopSignal(t *instructions.StopSignalCommand) error {
	if !isSignal(t.Signal) {
		return fmt.Errorf("invalid signal: %s", t.Signal)
	}
	w.state.config.Config.StopSignal = t.Signal
	w.remember(fmt.Sprintf("STOPSIGNAL %v", t.Signal))
	return nil
}

// isSignal reports whether a STOPSIGNAL is one: a number but 0, or a name of Linux's with SIG or without, in any case.
func isSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n != 0
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, ok := strings.CutPrefix(name, "RTMIN+"); ok {
		return inRange(n, 15)
	}
	if n, ok := strings.CutPrefix(name, "RTMAX-"); ok {
		return inRange(n, 14)
	}
	const names = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT RTMAX RTMIN SEGV" +
		" STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ "
	return name != "" && !strings.Contains(name, " ") && strings.Contains(names, " "+name+" ")
}

// inRange reports whether s is a number from 1 to last, written plainly.
func inRange(s string, last int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= last && strconv.Itoa(n) == s
}
