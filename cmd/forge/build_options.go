package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/executor"
)

// options turns flags into what forge.Build wants.
func (c *buildCmd) options(s *session) (forge.BuildOptions, error) {
	o := forge.BuildOptions{
		Context: c.Context, File: c.File, Stdin: s.in, Tags: c.Tag, Target: c.Target, Labels: c.Label,
		Platforms: c.Platform, Allow: c.Allow, Network: c.Network, NoCache: c.NoCache, NoCacheFilter: c.NoCacheFilter,
		Squash: c.Squash, Explain: c.Explain, Args: map[string]string{}, Contexts: map[string]string{},
		Annotations: map[string]string{},
	}
	o.Pull = forge.PullPolicy(c.Pull)
	var errs []error
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
	}
	var err error
	o.Secrets, err = parseSecrets(c.Secret)
	errs = append(errs, err)
	o.SSH, err = parseSSH(c.SSH)
	errs = append(errs, err, c.entitlements(), c.limits(&o), c.outputs(s, &o), c.epoch(&o))
	if err := errors.Join(errs...); err != nil {
		return o, &usageError{1, err}
	}
	return o, nil
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

// annotationKey drops docker's prefix that says what is annotated: here it is the manifest, or the index of several.
func annotationKey(key string) string {
	for _, level := range []string{"manifest:", "index:", "manifest-descriptor:", "index,manifest:", "manifest,index:"} {
		if rest, ok := strings.CutPrefix(key, level); ok {
			return rest
		}
	}
	return key
}

// entitlements refuses what cannot be granted. Those of files, docker's fs.…, concern a builder that is elsewhere.
func (c *buildCmd) entitlements() error {
	for _, allow := range c.Allow {
		name, _, _ := strings.Cut(allow, "=")
		switch name {
		case "network.host", "security.insecure", "device", "fs", "fs.read", "fs.write":
		default:
			return fmt.Errorf("--allow %s: must be network.host, security.insecure or device", allow)
		}
	}
	return nil
}

func (c *buildCmd) limits(o *forge.BuildOptions) error {
	l := &o.Limits
	l.Hosts, l.Ulimits = c.AddHost, c.Ulimit
	for _, host := range c.AddHost {
		if !strings.ContainsAny(host, ":=") {
			return fmt.Errorf("--add-host %q: must be HOST:IP", host)
		}
	}
	err := checkUlimits(c.Ulimit)
	if err != nil {
		return err
	}
	if l.ShmSize, err = bytesFlag("--shm-size", c.ShmSize); err != nil {
		return err
	}
	if l.Memory, err = bytesFlag("--memory", c.Memory); err != nil {
		return err
	}
	if c.CPUs != "" {
		n, err := strconv.ParseFloat(c.CPUs, 64)
		if err != nil || n <= 0 || math.IsInf(n, 0) {
			return fmt.Errorf("--cpus %q: must be a number such as 1.5", c.CPUs)
		}
		l.NanoCPUs = int64(n * 1e9)
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
			o.Outputs = append(o.Outputs, forge.Output{Type: "image"})
		}
		o.Outputs = append(o.Outputs, forge.Output{Type: "registry"})
	}
	return nil
}

// epoch finds SOURCE_DATE_EPOCH: a build argument, else the environment's.
func (c *buildCmd) epoch(o *forge.BuildOptions) error {
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
		t, err := forge.CommitTime(c.Context)
		if err != nil {
			return fmt.Errorf("--reproducible: %w; set SOURCE_DATE_EPOCH", err)
		}
		o.Epoch = &t
		o.Args["SOURCE_DATE_EPOCH"] = strconv.FormatInt(t.Unix(), 10)
		return nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: must be seconds since 1970", value)
	}
	t := time.Unix(seconds, 0).UTC()
	o.Epoch = &t
	return nil
}

// parseSecrets reads --secret id=ID[,src=FILE|env=VAR][,type=file|env]. Without a source it is the variable ID, if that
// is set, else the file ID.
func parseSecrets(specs []string) (secrets []executor.Secret, err error) {
	for _, spec := range specs {
		var kind string
		var secret executor.Secret
		for field := range strings.SplitSeq(spec, ",") {
			key, value, ok := strings.Cut(field, "=")
			if !ok {
				return nil, fmt.Errorf("--secret %q: %q has no value", spec, field)
			}
			switch strings.ToLower(key) {
			case "id":
				secret.ID = value
			case "src", "source":
				secret.File = value
			case "env":
				secret.Env = value
			case "type":
				kind = value
			default:
				return nil, fmt.Errorf("--secret %q: no such field: %q; must be id, src, env or type", spec, key)
			}
		}
		switch {
		case secret.ID == "":
			return nil, fmt.Errorf("--secret %q: has no id", spec)
		case kind != "" && kind != "file" && kind != "env":
			return nil, fmt.Errorf("--secret %q: type %q: must be file or env", spec, kind)
		case kind == "env" && secret.Env == "":
			secret.Env, secret.File = secret.File, ""
		}
		if secret.Env == "" && secret.File == "" {
			if _, ok := os.LookupEnv(secret.ID); ok && kind != "file" || kind == "env" {
				secret.Env = secret.ID
			} else {
				secret.File = secret.ID
			}
		}
		if err := present(spec, secret); err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// present tells early of a secret that is not there: the step that needs it may come late.
func present(spec string, secret executor.Secret) error {
	if secret.File != "" {
		if _, err := os.Stat(secret.File); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--secret %q: %w", spec, err)
		}
	}
	return nil
}

// parseSSH reads --ssh ID[=SOCKET|KEY[,KEY…]]; without a source it is the agent at $SSH_AUTH_SOCK.
func parseSSH(specs []string) ([]executor.SSHSource, error) {
	var sources []executor.SSHSource
	for _, spec := range specs {
		id, paths, _ := strings.Cut(spec, "=")
		source := executor.SSHSource{ID: id}
		switch {
		case id == "":
			return nil, fmt.Errorf("--ssh %q: has no ID", spec)
		case paths != "":
			source.Paths = strings.Split(paths, ",")
		case os.Getenv("SSH_AUTH_SOCK") == "":
			return nil, fmt.Errorf("--ssh %s: SSH_AUTH_SOCK is not set; start ssh-agent, or name a key: --ssh %s=FILE", spec, id)
		}
		for _, path := range source.Paths {
			if _, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("--ssh %s: %w", spec, err)
			}
		}
		sources = append(sources, source)
	}
	return sources, nil
}
