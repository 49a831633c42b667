package planner

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"

	"github.com/forge-build/forge/internal/web"
)

// A GitRef is a repository with what to take of it, as an ADD or a context names it. It is plain data, and can be compared.
type GitRef struct {
	Remote        string // what to give to git: the address without fragment and query; may hold name and password
	Ref           string // branch, tag, "refs/…" or commit; "" is the default branch
	Dir           string // relative and clean; "" is all
	Checksum      string // commit, or tag object, that Ref must be, or the first hexadecimal digits of it
	KeepGitDir    bool   // with .git
	Submodules    bool
	CommitTime    bool // files are as old as the commit, not as the checkout
	FetchByCommit bool // Checksum, which is a whole commit then, is taken without asking where Ref is
}

// ParseGit reads the source of an ADD or a COPY as a repository, in the language of BuildKit's build files:
// https://host/repo.git, git://…, ssh://… or user@host:path, with "#ref:dir" or "?ref=…&subdir=…". If it is not one ok is
// false; if it is one and wrong, there is an error, too. The flags of an ADD give checksum and keep, "" and nil if they do not;
// the address may say the same, and nothing else.
func ParseGit(s, checksum string, keep *bool) (ref *GitRef, ok bool, err error) {
	if strings.HasPrefix(s, "github.com/") {
		return nil, false, nil
	}
	a, ok, err := parseGitAddress(s)
	if !ok || err != nil {
		return nil, ok, err
	}
	if keep != nil {
		if a.KeepGitDir != nil && *a.KeepGitDir != *keep {
			return nil, true, errors.New("inconsistent keep-git-dir configuration")
		}
		a.KeepGitDir = keep
	}
	if checksum != "" {
		if a.Checksum != "" && a.Checksum != checksum {
			return nil, true, fmt.Errorf("checksum mismatch %q != %q", checksum, a.Checksum)
		}
		a.Checksum = checksum
	}
	ref, err = gitRef(a)
	return ref, true, err
}

// ParseGitContext reads what people name by a build context as a repository: all that [ParseGit] reads, and github.com/…. If
// the address does not say whether .git is to be kept, keepGitDir does.
func ParseGitContext(s string, keepGitDir *bool) (ref *GitRef, ok bool, err error) {
	a, ok, err := parseGitAddress(s)
	if !ok || err != nil {
		return nil, ok, err
	}
	if a.IndistinguishableFromLocal { // github.com/…
		a.Remote = "https://" + a.Remote
	}
	if a.KeepGitDir == nil {
		a.KeepGitDir = keepGitDir
	}
	ref, err = gitRef(a)
	return ref, true, err
}

// parseGitAddress has BuildKit read an address. What cannot be read as an address at all is no repository.
func parseGitAddress(s string) (a *dfgitutil.GitRef, ok bool, err error) {
	a, ok, err = dfgitutil.ParseGitRef(s)
	if !ok {
		return nil, false, nil
	}
	if err == nil && !a.IndistinguishableFromLocal {
		err = checkRemote(a.Remote)
	}
	if err != nil {
		return nil, true, fmt.Errorf("%s: %w", web.Redact(s), err)
	}
	return a, true, nil
}

// checkRemote refuses what git, or ssh for it, could take for a flag.
func checkRemote(remote string) error {
	_, host, _ := strings.Cut(remote, "@")
	if strings.Contains(remote, "://") {
		u, err := web.ParseURL(remote)
		if err != nil {
			return err
		}
		host = u.Host
	}
	if strings.HasPrefix(remote, "-") || host == "" || strings.HasPrefix(host, "-") {
		return errors.New("is not the address of a repository")
	}
	return nil
}

// gitRef checks what was put together: a ref must not be anything else to git.
func gitRef(a *dfgitutil.GitRef) (*GitRef, error) {
	r := &GitRef{
		Remote: a.Remote, Ref: a.Ref, Dir: strings.TrimPrefix(path.Join("/", a.SubDir), "/"), Checksum: a.Checksum,
		KeepGitDir: a.KeepGitDir != nil && *a.KeepGitDir, Submodules: a.Submodules == nil || *a.Submodules,
		CommitTime: a.MTime == "commit", FetchByCommit: a.FetchByCommit,
	}
	var err error
	switch {
	case strings.HasPrefix(r.Ref, "-") || strings.ContainsAny(r.Ref, " \t\n\x00~^:?*[\\") || strings.Contains(r.Ref, ".."):
		err = fmt.Errorf("ref %q is not valid", r.Ref)
	case strings.Trim(r.Checksum, "0123456789abcdefABCDEF") != "":
		err = fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", r.Checksum)
	case !r.FetchByCommit || IsCommit(r.Ref):
	case r.Checksum == "":
		err = errors.New("fetch-by-commit requires a checksum or a commit SHA ref")
	case !IsCommit(strings.ToLower(r.Checksum)):
		err = fmt.Errorf("fetch-by-commit requires a full commit SHA checksum, got %q", r.Checksum)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", web.Redact(r.Remote), err)
	}
	return r, nil
}

// IsCommit reports whether s is the whole hash of a commit.
func IsCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
