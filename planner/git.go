package planner

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

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
	a, ok, err := parseGitAddress(s)
	if !ok || err != nil {
		return nil, ok, err
	}
	if keep != nil {
		if a.keepGitDir != nil && *a.keepGitDir != *keep {
			return nil, true, errors.New("inconsistent keep-git-dir configuration")
		}
		a.keepGitDir = keep
	}
	if checksum != "" {
		if a.Checksum != "" && a.Checksum != checksum {
			return nil, true, fmt.Errorf("checksum mismatch %q != %q", checksum, a.Checksum)
		}
		a.Checksum = checksum
	}
	ref, err = a.ref()
	return ref, true, err
}

// ParseGitContext reads what people name by a build context as a repository: all that [ParseGit] reads, and github.com/…. If
// the address does not say whether .git is to be kept, keepGitDir does.
func ParseGitContext(s string, keepGitDir *bool) (ref *GitRef, ok bool, err error) {
	var a *gitAddress
	if name, rest := cutBefore(s, "?#"); strings.HasPrefix(name, "github.com/") {
		ok = true
		a, err = newGitAddress("https://"+name, rest)
	} else {
		a, ok, err = parseGitAddress(s)
	}
	if !ok || err != nil {
		return nil, ok, err
	}
	if a.keepGitDir == nil {
		a.keepGitDir = keepGitDir
	}
	ref, err = a.ref()
	return ref, true, err
}

// A gitAddress is a GitRef of which is known what was said.
type gitAddress struct {
	GitRef
	keepGitDir *bool
}

func parseGitAddress(s string) (a *gitAddress, ok bool, err error) {
	if strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		return nil, false, nil
	}
	remote, rest := cutBefore(s, "?#")
	scheme, after, found := strings.Cut(remote, "://")
	switch scheme = strings.ToLower(scheme); {
	case !found:
		if !isSCP(remote) {
			return nil, false, nil
		}
	case scheme == "ssh", scheme == "git", (scheme == "http" || scheme == "https") && strings.HasSuffix(remote, ".git"):
		remote = scheme + "://" + after
	default:
		return nil, false, nil
	}
	a, err = newGitAddress(remote, rest)
	return a, true, err
}

// newGitAddress reads what follows the remote: "?query#ref:dir".
func newGitAddress(remote, rest string) (*gitAddress, error) {
	a := &gitAddress{GitRef: GitRef{Remote: remote, Submodules: true}}
	query, fragment, _ := strings.Cut(rest, "#")
	err := checkRemote(remote)
	if err == nil && strings.Contains(remote, "://") {
		fragment, err = url.PathUnescape(fragment)
	}
	if commit, dir, _ := strings.Cut(fragment, ":"); fragment != "" {
		a.Ref, a.Dir = commit, strings.TrimPrefix(path.Join("/", dir), "/")
	}
	var values url.Values
	if err == nil {
		values, err = url.ParseQuery(strings.TrimPrefix(query, "?"))
	}
	if err == nil {
		err = a.query(values)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", web.Redact(remote+rest), err)
	}
	return a, nil
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

// cutBefore cuts s before the first of some characters.
func cutBefore(s, chars string) (before, rest string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// isSCP reports whether an address is user@host:path, as git and BuildKit read it.
func isSCP(s string) bool {
	user, rest, found := strings.Cut(s, "@")
	host, _, colon := strings.Cut(rest, ":")
	return found && colon && user != "" && host != "" && strings.Trim(user, wordChars+"-_") == "" &&
		strings.Trim(host, wordChars+"-.") == "" && !strings.Contains(s, "\n")
}

const wordChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// query reads what follows "?".
func (a *gitAddress) query(values url.Values) error {
	var tag, branch string
	for key, list := range values {
		if len(list) > 1 {
			return fmt.Errorf("query %q has multiple values", key)
		}
		value := list[0]
		if flag := a.flag(key); flag != nil {
			on, err := strconv.ParseBool(value)
			if err != nil && value != "" {
				return fmt.Errorf("invalid %s value: %q", key, value)
			}
			flag(on || value == "")
			continue
		}
		if value == "" {
			return fmt.Errorf("query %q has no value", key)
		}
		var err error
		switch key {
		case "ref":
			err = setOnce(&a.Ref, value, "ref")
		case "tag":
			tag = "refs/tags/" + strings.TrimPrefix(value, "refs/tags/")
		case "branch":
			branch = "refs/heads/" + strings.TrimPrefix(value, "refs/heads/")
		case "subdir":
			err = setOnce(&a.Dir, strings.TrimPrefix(path.Join("/", value), "/"), "subdir")
		case "checksum", "commit":
			a.Checksum = value
		case "mtime":
			if a.CommitTime = value == "commit"; !a.CommitTime && value != "checkout" {
				err = fmt.Errorf("invalid mtime value: %q (must be \"checkout\" or \"commit\")", value)
			}
		default:
			err = fmt.Errorf("unexpected query %q", key)
		}
		if err != nil {
			return err
		}
	}
	if tag != "" && branch != "" {
		return errors.New("branch conflicts with tag")
	}
	if name := tag + branch; name != "" {
		return setOnce(&a.Ref, name, "ref")
	}
	return nil
}

// flag is how to set a query's flag; nil if it is none.
func (a *gitAddress) flag(key string) func(on bool) {
	switch key {
	case "keep-git-dir":
		return func(on bool) { a.keepGitDir = &on }
	case "submodules":
		return func(on bool) { a.Submodules = on }
	case "fetch-by-commit":
		return func(on bool) { a.FetchByCommit = on }
	}
	return nil
}

// ref checks what was put together: a ref must not be anything else to git.
func (a *gitAddress) ref() (*GitRef, error) {
	r := a.GitRef
	r.KeepGitDir = a.keepGitDir != nil && *a.keepGitDir
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
	return &r, nil
}

// IsCommit reports whether s is the whole hash of a commit.
func IsCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// setOnce sets what may be said twice but not differently.
func setOnce(to *string, value, what string) error {
	if *to != "" && *to != value {
		return fmt.Errorf("%s conflicts: %q vs %q", what, *to, value)
	}
	*to = value
	return nil
}
