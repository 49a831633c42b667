package executor

import (
	"fmt"
	"strconv"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/source"
)

// keyFormat changes when the same fields begin to mean another layer, so that old entries are not taken for answers.
const keyFormat = "3"

// Key is a hash of everything that the layer of a job depends on. It alone decides what is in a key; what each field is for
// is told in docs/cache.md. What is not here is not in a key: names and comments of the build file, stages, times of files,
// values of secrets, proxies, limits, mirrors.
func (j *Job) Key() (*cache.Hash, error) {
	h := &cache.Hash{}
	h.Field("format", keyFormat)
	independent := false
	switch op := j.Op.(type) {
	case *planner.Run:
		describeRunOp(op, h)
	case *planner.Copy:
		describeCopyOp(op, h)
		independent = op.Independent()
	case *planner.Mkdir:
		h.Field("mkdir", op.Path)
		h.Field("user", op.User)
	default:
		return nil, fmt.Errorf("%T has no key", j.Op)
	}
	if !independent {
		h.Field("below", image.ChainID(j.On).String())
	}
	if j.Epoch != nil {
		h.Field("epoch", strconv.FormatInt(j.Epoch.Unix(), 10))
	}
	if j.Only != nil {
		n, layers := j.Resolves()
		h.Field("only "+strconv.Itoa(n), image.ChainID(layers).String())
	}
	for n, in := range j.Inputs {
		describeInput(j.Op, n, in, h)
	}
	return h, nil
}

// describeInput says what an input came to.
func describeInput(op planner.Op, n int, in source.Input, h *cache.Hash) {
	switch op := op.(type) {
	case *planner.Run:
		for _, f := range in.Files {
			h.Field("files "+op.Mounts[n].Target, "sha256:"+f.Sum)
		}
		return
	case *planner.Copy:
		if in.Commit != nil {
			h.Field("commit "+web.WithoutLogin(op.Sources[n].Git.Remote), in.Commit.ID)
		}
		if in.Download != nil {
			h.Field("content "+shownURL(op.Sources[n].URL), in.Download.Digest.String())
		}
	}
	for _, f := range in.Files {
		h.Field("file "+f.Name, f.Sum)
	}
}

func describeRunOp(op *planner.Run, h *cache.Hash) {
	h.Field("run", op.Args...)
	h.Field("env", op.Env...)
	h.Field("dir", op.Dir)
	h.Field("user", op.User)
	h.Field("platform", op.Platform)
	h.Field("network", op.Network)
	if op.Hostname != "" {
		h.Field("hostname", op.Hostname)
	}
	if op.Insecure {
		h.Field("security", "insecure")
	}
	for _, d := range op.Devices {
		h.Field("device", d.Name)
	}
	for _, f := range op.Files {
		h.Field("script", f.Name, f.Content)
	}
	for i, m := range op.Mounts {
		h.Field("mount "+strconv.Itoa(i), describeMount(m)...)
	}
}

// describeMount says what a mount looks like from inside. Neither what is in a cache or secret nor how it is shared
// belongs to it; what is in a bind mount and what a cache begins with is added by the worker.
func describeMount(m planner.Mount) []string {
	values := []string{string(m.Type), m.Target}
	add := func(name, value string) { values = append(values, name+"="+value) }
	switch m.Type {
	case planner.Bind:
		if !m.ReadOnly {
			add("mode", "rw")
		}
	case planner.Cache:
		add("id", m.ID)
		if m.ReadOnly {
			add("mode", "ro")
		}
		if m.From == nil && m.Source != "" && m.Source != "/" {
			add("source", m.Source)
		}
		describeCacheAccess(m, add)
	case planner.Tmpfs:
		add("size", strconv.FormatInt(m.Size, 10))
	case planner.Secret, planner.SSH:
		add("id", m.ID)
		if m.Env != "" {
			add("env", m.Env)
		}
		if m.Mode != nil {
			add("mode", strconv.FormatUint(uint64(*m.Mode), 8))
		}
		add("owner", fmt.Sprintf("%d:%d", m.UID, m.GID))
	}
	return values
}

// describeCacheAccess adds owner and mode of a cache if they are not those of most.
func describeCacheAccess(m planner.Mount, add func(name, value string)) {
	if m.Mode != nil {
		add("permissions", strconv.FormatUint(uint64(*m.Mode), 8))
	}
	if m.UID != 0 || m.GID != 0 {
		add("owner", fmt.Sprintf("%d:%d", m.UID, m.GID))
	}
}

func describeCopyOp(op *planner.Copy, h *cache.Hash) {
	verb := "copy"
	if op.Add != nil {
		verb = "add"
	}
	h.Field(verb, op.Dest)
	for _, s := range op.Sources {
		switch {
		case s.File != nil:
			h.Field("file", s.File.Name, s.File.Content)
		case s.URL != "":
			h.Field("url", shownURL(s.URL))
		case s.Git != nil:
			describeGitRef(s.Git, h)
		default:
			h.Field("source", s.Path)
		}
	}
	if op.Chown != "" {
		h.Field("chown", op.Chown)
	}
	if op.Chmod != "" {
		h.Field("chmod", op.Chmod)
	}
	if len(op.Exclude) > 0 {
		h.Field("exclude", op.Exclude...)
	}
	if op.Link {
		h.Field("link", "true")
	}
	if op.Parents {
		h.Field("parents", "true")
	}
	if op.Add != nil {
		describeAdd(op.Add, h)
	}
}

func describeAdd(a *planner.Add, h *cache.Hash) {
	if a.Unpack != nil {
		h.Field("unpack", strconv.FormatBool(*a.Unpack))
	}
	if a.Checksum != "" {
		h.Field("checksum", a.Checksum)
	}
}

// describeGitRef says which repository is read and what of it; the commit is an input. What only says how the commit is
// found is left out.
func describeGitRef(g *planner.GitRef, h *cache.Hash) {
	h.Field("git", shownURL(g.Remote), g.Ref, g.Dir)
	if g.Checksum != "" {
		h.Field("checksum", g.Checksum)
	}
	if g.KeepGitDir {
		h.Field("keep-git-dir", "true")
	}
	if !g.Submodules {
		h.Field("submodules", "false")
	}
	if g.CommitTime {
		h.Field("mtime", "commit")
	}
}

// shownURL takes out of a URL what is secret: a key's fields are kept on disk, and a token would be with them.
func shownURL(s string) string { return web.Redact(web.WithoutLogin(s)) }
