package planner

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/internal/web"
)

// copyFrom makes a Copy of a COPY.
func (w *walker) copyFrom(t *instructions.CopyCommand, sources []*stage) error {
	op := &Copy{
		From:  w.p.outside(""),
		Chown: t.Chown, Chmod: t.Chmod, Link: t.Link, Parents: t.Parents, Exclude: t.ExcludePatterns,
	}
	var reads []*Step
	if len(sources) > 0 {
		from := sources[0]
		if ready, err := w.p.ready(from); err != nil {
			return err
		} else if !ready {
			return fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", t.From, w.stage.label)
		}
		op.From = w.p.read(&reads, from)
	}
	for _, src := range t.SourcePaths {
		if _, isGit, err := ParseGit(src, "", nil); isGit {
			if err != nil {
				return err
			}
			return fmt.Errorf("source can't be a git ref for COPY: %s", web.Redact(src))
		}
		if isURL(src) {
			return fmt.Errorf("source can't be a URL for COPY: %s", web.Redact(src))
		}
		if len(sources) == 0 {
			w.lintIgnored("Copy", src, t.Location())
		}
		if !t.Parents { // with them, what lies before a "/./" is the pivot
			src = path.Join("/", src)
		}
		op.Sources = append(op.Sources, Source{Path: cmp.Or(src, "/")})
	}
	return w.copy(op, reads, "COPY", t, t.SourcesAndDest)
}

// add makes a Copy of an ADD.
func (w *walker) add(t *instructions.AddCommand) error {
	add := &Add{Unpack: t.Unpack}
	op := &Copy{
		From:  w.p.outside(""),
		Chown: t.Chown, Chmod: t.Chmod, Link: t.Link, Exclude: t.ExcludePatterns, Add: add,
	}
	if t.Checksum != "" && len(t.SourcePaths) != 1 {
		return errors.New("checksum can't be specified for multiple sources")
	}
	for _, src := range t.SourcePaths {
		git, isGit, err := ParseGit(src, t.Checksum, t.KeepGitDir)
		if isGit && err != nil {
			return err
		}
		if t.Checksum != "" && !isGit && !isURL(src) {
			return errors.New("checksum requires HTTP(S) or Git sources")
		}
		switch {
		case isGit:
			op.Sources = append(op.Sources, Source{Git: git})
		case isURL(src):
			if _, err := web.ParseURL(src); err != nil {
				return fmt.Errorf("%s: %w", web.Redact(src), err)
			}
			if t.Checksum != "" {
				if _, err := digest.Parse(t.Checksum); err != nil {
					return fmt.Errorf("checksum %s: %w", t.Checksum, err)
				}
			}
			add.Checksum = t.Checksum
			op.Sources = append(op.Sources, Source{URL: src})
		default:
			w.lintIgnored("Add", src, t.Location())
			op.Sources = append(op.Sources, Source{Path: path.Join("/", src)})
		}
	}
	return w.copy(op, nil, "ADD", t, t.SourcesAndDest)
}

// copy completes a Copy with what COPY and ADD have in common, and does it.
func (w *walker) copy(op *Copy, reads []*Step, verb string, c fmt.Stringer, t instructions.SourcesAndDest) error {
	if op.Link && ParseChown(op.Chown).ByName() {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", op.Chown)
	}
	if w.state.fs.step == nil && w.state.fs.context == nil && ParseChown(op.Chown).ByName() {
		return fmt.Errorf("--chown=%s: user and group names can't be resolved in an empty file system, use numeric uid[:gid] instead", op.Chown)
	}
	if _, err := ParseMode(op.Chmod); err != nil {
		return err
	}
	text := verb
	if op.Parents {
		text += " --parents"
	}
	if op.Chown != "" {
		text += " --chown=" + op.Chown
	}
	if op.Chmod != "" {
		text += " --chmod=" + op.Chmod
	}
	for _, src := range t.SourcePaths {
		text += " " + src
	}
	for _, src := range t.SourceContents {
		if src.Path != path.Base(src.Path) || src.Path == "." || src.Path == ".." {
			return fmt.Errorf("heredoc %s: a file's name cannot be a path", src.Path)
		}
		op.Sources = append(op.Sources, Source{File: &File{Name: src.Path, Content: src.Data}})
		w.p.expandedBytes += len(src.Data)
		text += " <<" + src.Path
	}
	dest := t.DestPath
	if dest == "" || dest == "." {
		dest = "./" // the working directory is one, even where it is not there yet
	}
	op.Dest = cleanDest(joinDest(w.state.config.Config.WorkingDir, dest))
	name := w.nameOf(w.p.lex, c.String(), w.state.vars)
	for _, src := range t.SourcePaths {
		if shown := web.Redact(src); shown != src {
			text, name = strings.ReplaceAll(text, src, shown), strings.ReplaceAll(name, src, shown)
		}
	}
	w.do(op, reads, name, text+" "+t.DestPath+" # buildkit")
	return nil
}

// cleanDest cleans a path but for what says at its end that it is a directory.
func cleanDest(dest string) string {
	clean := path.Clean(dest)
	switch {
	case clean == "/":
		return clean
	case strings.HasSuffix(dest, "/"):
		return clean + "/"
	case strings.HasSuffix(dest, "/."):
		return clean + "/."
	}
	return clean
}

func isURL(src string) bool {
	return strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")
}

// lintIgnored applies the rule that what is copied is not ignored. Patterns that take back make it too hard to tell.
func (w *walker) lintIgnored(verb, src string, at []bk.Range) {
	if w.p.rules.ignore == nil || w.p.rules.ignore.Exclusions() {
		return
	}
	if src = path.Clean(src); src == "." || src == "/" {
		all := false
		for _, pattern := range w.p.rules.ignore.Patterns() {
			all = all || pattern.String() == "*" || pattern.String() == "**" || pattern.String() == "**/*"
		}
		if !all {
			return
		}
	}
	if ignored, err := w.p.rules.ignore.MatchesOrParentMatches(src); err == nil && ignored {
		w.lint.Run(&linter.RuleCopyIgnoredFile, at, linter.RuleCopyIgnoredFile.Format(verb, src))
	}
}
