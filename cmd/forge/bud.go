package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/forge-build/forge"
)

// budCmd is buildah's build: the flags of build, but for those that buildah has otherwise.
type budCmd struct {
	Args []string `arg:"" optional:"" help:"Flags of buildah build, and the context." placeholder:"ARGS"`
}

// Run builds.
func (c *budCmd) Run(s *session) error {
	t := budTranslation{}
	args, err := t.args(c.Args)
	if err != nil {
		return badUsage(err)
	}
	build, err := parseBuild(args)
	if err != nil {
		return badUsage(err)
	}
	if build.Context == "" { // as buildah
		build.Context = "."
	}
	if build.File == "" {
		if _, err := os.Stat(build.Context + "/Containerfile"); err == nil {
			build.File = build.Context + "/Containerfile"
		}
	}
	o, err := build.options(s)
	if err != nil {
		return err
	}
	o.Insecure = t.insecure
	if t.authFile != "" {
		if err := os.Setenv("REGISTRY_AUTH_FILE", t.authFile); err != nil {
			return err
		}
	}
	return s.withHome(func(h *forge.Home) error { return build.build(s, h, o) })
}

// A budTranslation is what flags of buildah say that are none of build.
type budTranslation struct {
	insecure bool   // --tls-verify=false
	authFile string // --authfile
}

// args translates flags of buildah into those of build.
func (t *budTranslation) args(in []string) (out []string, err error) {
	for i := 0; i < len(in); i++ {
		if in[i] == "--" {
			return append(out, in[i:]...), nil
		}
		name, value, given := strings.Cut(in[i], "=")
		next := func() string { // the value of a flag that needs one
			if !given && i+1 < len(in) {
				i++
				value = in[i]
			}
			return value
		}
		switch name {
		case "--layers", "--rm", "--force-rm", "--compat-volumes", "--identity-label", "--stdin", "--inherit-labels", "--skip-unused-stages", "--disable-compression", "-D":
			if name == "--layers" && value == "false" { // buildah's word for: use nothing of earlier builds
				out = append(out, "--no-cache")
			}
		case "--jobs", "--runtime", "--log-level", "--retry", "--retry-delay", "--cgroupns", "--userns", "--ipc", "--pid", "--uts":
			next()
		case "--format":
			if v := next(); v != "oci" {
				return nil, fmt.Errorf("--format %s: images are written in the format of OCI only", v)
			}
		case "--isolation":
			isolation := map[string]string{"oci": "namespaces", "rootless": "namespaces", "chroot": "chroot"}[next()]
			if isolation == "" {
				return nil, fmt.Errorf("--isolation %s: must be oci, rootless or chroot", value)
			}
			out = append(out, "--isolation="+isolation)
		case "--tls-verify":
			t.insecure = value == "false"
		case "--authfile":
			t.authFile = next()
		case "--creds", "--cert-dir", "--decryption-key", "--signature-policy", "--sign-by", "--volume", "-v", "--from", "--userns-uid-map", "--userns-gid-map":
			return nil, fmt.Errorf("%s: %s", name, budReason(name))
		case "--manifest":
			out = append(out, "--tag="+next())
		case "--timestamp", "--source-date-epoch":
			out = append(out, "--build-arg=SOURCE_DATE_EPOCH="+next())
		case "--pull-always":
			out = append(out, "--pull=always")
		case "--pull-never":
			out = append(out, "--pull=never")
		case "--pull":
			out = append(out, pullPolicy(name, value, given))
		default:
			out = append(out, in[i])
		}
	}
	return out, nil
}

// pullPolicy is buildah's --pull in the words of build.
func pullPolicy(name, value string, given bool) string {
	words := map[string]string{"true": "always", "false": "never", "ifmissing": "missing", "ifnewer": "always", "newer": "always"}
	if word, ok := words[value]; ok {
		value = word
	}
	if !given || !slices.Contains([]string{"always", "missing", "never"}, value) {
		value = "always"
	}
	return name + "=" + value
}

// budReason says why a flag of buildah is refused, and what to do.
func budReason(flag string) string {
	switch flag {
	case "--creds":
		return "log in with forge login, which keeps name and password from lists of processes"
	case "--cert-dir":
		return "put the files into /etc/containers/certs.d/HOST"
	case "--volume", "-v":
		return "a RUN sees what its build file mounts: RUN --mount=type=bind or type=cache, with --build-context"
	case "--from":
		return "name it in the build file, by an ARG"
	}
	return "forge does not do that"
}
