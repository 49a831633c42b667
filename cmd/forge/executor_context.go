package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge"
)

// context translates kaniko's forms of a context into those of build: what stands behind its prefix. stdin is what "-" is read
// from.
func (c *executorCmd) context(s *session) (context string, stdin io.ReadCloser, err error) {
	if c.Bucket != "" {
		return "", nil, errors.New("--bucket: forge reads nothing from buckets: download the context in a step before, and name it as dir:// or tar://")
	}
	scheme, rest, ok := strings.Cut(c.Context, "://")
	if !ok {
		scheme, rest = "dir", c.Context
	}
	if host, _, _ := strings.Cut(rest, "/"); scheme == "https" && strings.HasSuffix(host, ".blob.core.windows.net") {
		scheme = "azblob"
	}
	switch scheme {
	case "dir":
		return filepath.Join(rest, c.ContextSubPath), s.in, nil
	case "git":
		context, err = c.gitContext(rest)
		return context, s.in, err
	case "s3", "gs", "azblob":
		return "", nil, fmt.Errorf("--context %s: forge reads nothing from buckets: download the context in a step before, and name it as dir:// or tar://", c.Context)
	case "tar", "https", "http":
		if c.ContextSubPath != "" {
			return "", nil, fmt.Errorf("--context-sub-path %s: a tar is a context as a whole: unpack it, and name it as dir://", c.ContextSubPath)
		}
	default:
		return "", nil, fmt.Errorf("--context %s: unknown build context prefix provided, please use one of the following: dir://, tar://, git://, https://", c.Context)
	}
	if scheme != "tar" {
		return c.Context, s.in, nil
	}
	if rest == "stdin" {
		return "-", s.in, nil
	}
	f, err := os.Open(rest)
	return "-", f, err
}

// gitContext is the address of a repository, with branch or commit and directory as docker writes them: HOST/PATH[#REF[#COMMIT]].
func (c *executorCmd) gitContext(rest string) (string, error) {
	parts := strings.Split(rest, "#")
	ref := parts[len(parts)-1]
	if len(parts) == 1 {
		ref = ""
	}
	for field := range strings.SplitSeq(c.Git, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch {
		case key == "branch" && value != "":
			ref = value
		case key == "insecure-skip-tls" && value == "true":
			return "", errors.New("--git insecure-skip-tls=true: git checks certificates: set GIT_SSL_CAINFO to that of the authority")
		case !slices.Contains([]string{"", "branch", "single-branch", "depth", "recurse-submodules", "insecure-skip-tls"}, key):
			return "", fmt.Errorf("--git %s: there is no %q", c.Git, key)
		}
	}
	address := &url.URL{Scheme: "https"}
	if os.Getenv("GIT_PULL_METHOD") == "http" {
		address.Scheme = "http"
	}
	address.Host, address.Path, _ = strings.Cut(parts[0], "/")
	if login, host, ok := strings.Cut(address.Host, "@"); ok {
		name, password, _ := strings.Cut(login, ":")
		address.User, address.Host = url.UserPassword(name, password), host
	}
	if !strings.HasSuffix(address.Path, ".git") {
		address.Path += ".git"
	}
	if name, password := os.Getenv("GIT_USERNAME"), os.Getenv("GIT_PASSWORD"); name != "" || password != "" {
		address.User = url.UserPassword(name, password)
	}
	if token := os.Getenv("GIT_TOKEN"); token != "" {
		address.User = url.UserPassword(token, "")
	}
	text := address.String()
	if ref != "" || c.ContextSubPath != "" {
		text += "#" + ref
	}
	if c.ContextSubPath != "" {
		text += ":" + c.ContextSubPath
	}
	return text, nil
}

// buildFile is where the build file is: in the working directory, or else in the context.
func (c *executorCmd) buildFile(context string) string {
	if info, err := os.Stat(context); err != nil || !info.IsDir() || strings.Contains(c.Dockerfile, "://") {
		return c.Dockerfile
	}
	if _, err := os.Stat(c.Dockerfile); err == nil {
		return c.Dockerfile
	}
	return filepath.Join(context, c.Dockerfile)
}

// registries has what flags say of single registries read as a part of registries.conf, and returns how to forget it again.
func (c *executorCmd) registries() (forget func(), err error) {
	conf := c.registriesConf()
	if conf == "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "forge-executor-")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "executor.conf"), []byte(conf), 0o600), os.Setenv("CONTAINERS_REGISTRIES_CONF_DIR", dir))
	return func() { os.RemoveAll(dir) }, err
}

// registriesConf is a registries.conf(5), "" if there is nothing to say.
func (c *executorCmd) registriesConf() string {
	insecure := append(slices.Clone(c.InsecureRegistry), c.SkipTLSVerifyRegistry...)
	mirrors := map[string][]string{}
	var names []string
	mirror := func(origin, host string) {
		if len(mirrors[origin]) == 0 {
			names = append(names, origin)
		}
		mirrors[origin] = append(mirrors[origin], host)
	}
	for _, host := range c.RegistryMirror {
		mirror("docker.io", host)
	}
	for pair := range strings.SplitSeq(c.RegistryMap, ";") {
		if origin, host, ok := strings.Cut(pair, "="); ok {
			if origin == "index.docker.io" {
				origin = "docker.io"
			}
			mirror(origin, host)
		}
	}
	var b strings.Builder
	for _, origin := range names {
		location := origin
		if c.SkipDefaultRegistryFallback {
			location = mirrors[origin][0]
		}
		fmt.Fprintf(&b, "[[registry]]\nprefix = %q\nlocation = %q\ninsecure = %t\n", origin, location, slices.Contains(insecure, location))
		for _, host := range mirrors[origin] {
			fmt.Fprintf(&b, "[[registry.mirror]]\nlocation = %q\ninsecure = %t\n", host, slices.Contains(insecure, host))
		}
	}
	for _, host := range insecure {
		if len(mirrors[host]) == 0 {
			fmt.Fprintf(&b, "[[registry]]\nlocation = %q\ninsecure = true\n", host)
		}
	}
	return b.String()
}

// finish writes what kaniko writes when an image is built.
func (c *executorCmd) finish(s *session, r *forge.BuildResult, archive string) error {
	var errs []error
	write := func(file, text string) {
		if file != "" {
			errs = append(errs, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
		}
	}
	digest := r.Descriptor.Digest.String()
	var names, tagged strings.Builder
	for i, ref := range r.Tags {
		if i < len(r.Pushed) {
			digest = r.Pushed[i].Descriptor.Digest.String()
		}
		fmt.Fprintf(&names, "%s@%s\n", ref.Name(), digest)
		fmt.Fprintf(&tagged, "%s:%s@%s\n", ref.Name(), ref.Tag, digest)
	}
	write(c.DigestFile, digest)
	write(c.ImageNameWithDigestFile, names.String())
	write(c.ImageNameTagWithDigestFile, tagged.String())
	if c.OCILayoutPath != "" {
		from := "oci-archive:" + archive
		if len(r.Tags) > 0 {
			from += ":" + r.Tags[0].String()
		}
		_, err := forge.Copy(s.ctx, "oci:"+c.OCILayoutPath, from, forge.CopyOptions{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
