package planner

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// A GitRef is a repository with what to take of it, as an ADD or a context names it:
// https://host/repo.git#ref:dir, https://host/repo.git?ref=…&subdir=… or git@host:repo.git.
type GitRef struct {
	Remote        string // what to give to git: the URL without fragment and query
	Ref           string // branch, tag or commit; "" is the default branch
	Dir           string // relative and clean; "" is all
	Checksum      string // commit that Ref must be, or a prefix of it
	KeepGitDir    *bool
	Submodules    *bool  // nil is true
	MTime         string // "checkout", "commit" or ""
	FetchByCommit bool   // take Checksum for the commit without asking where Ref is
}

// ParseGit reads a source as a repository. If it is not one ok is false; if it is one and wrong, there is an error too.
func ParseGit(s string) (ref *GitRef, ok bool, err error) {
	if strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		return nil, false, nil
	}
	var u *url.URL
	if scheme, _, found := strings.Cut(s, "://"); found && isWord(scheme) {
		switch strings.ToLower(scheme) {
		case "http", "https", "ssh", "git":
		default:
			return nil, false, nil
		}
		if u, err = url.Parse(s); err != nil {
			return nil, false, nil
		}
		if strings.HasPrefix(u.Scheme, "http") && !strings.HasSuffix(u.Path, ".git") {
			return nil, false, nil
		}
	} else if u, err = parseSCP(s); u == nil {
		return nil, false, nil
	} else if err != nil {
		return nil, true, err
	}
	bare := *u
	bare.Fragment, bare.RawFragment, bare.RawQuery, bare.ForceQuery = "", "", "", false
	ref = &GitRef{Remote: bare.String()}
	if u.Scheme == "" {
		ref.Remote = u.Opaque // as git writes it, not as a URL
	}
	if u.Fragment != "" {
		commit, dir, _ := strings.Cut(u.Fragment, ":")
		ref.Ref, ref.Dir = commit, strings.TrimPrefix(path.Join("/", dir), "/")
	}
	if err := ref.query(u.Query()); err != nil {
		return nil, true, fmt.Errorf("%s: %w", s, err)
	}
	return ref, true, nil
}

// parseSCP reads user@host:path?query#fragment, which is not a URL: what git calls the repository is in Opaque. It
// returns nil if s is not of that form.
func parseSCP(s string) (*url.URL, error) {
	user, rest, found := strings.Cut(s, "@")
	if !found || user == "" || strings.Trim(user, wordChars+"-_") != "" {
		return nil, nil
	}
	host, rest, found := strings.Cut(rest, ":")
	if !found || host == "" || strings.Trim(host, wordChars+"-.") != "" || strings.ContainsAny(rest, "\n") {
		return nil, nil
	}
	name, fragment, _ := strings.Cut(rest, "#")
	name, query, _ := strings.Cut(name, "?")
	u := &url.URL{Opaque: user + "@" + host + ":" + name, Fragment: fragment, RawQuery: query}
	if _, err := url.ParseQuery(query); err != nil {
		return u, fmt.Errorf("%s: %w", s, err)
	}
	return u, nil
}

const wordChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func isWord(s string) bool { return s != "" && strings.Trim(s, wordChars) == "" }

// query reads what follows "?".
func (r *GitRef) query(values url.Values) error {
	var tag, branch string
	for key, list := range values {
		if len(list) > 1 {
			return fmt.Errorf("query %q has multiple values", key)
		}
		value := list[0]
		if flag := r.flag(key); flag != nil {
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
			err = setOnce(&r.Ref, value, "ref")
		case "tag":
			tag = "refs/tags/" + strings.TrimPrefix(value, "refs/tags/")
		case "branch":
			branch = "refs/heads/" + strings.TrimPrefix(value, "refs/heads/")
		case "subdir":
			err = setOnce(&r.Dir, strings.TrimPrefix(path.Join("/", value), "/"), "subdir")
		case "checksum", "commit":
			r.Checksum = value
		case "mtime":
			if r.MTime = value; value != "checkout" && value != "commit" {
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
		return setOnce(&r.Ref, name, "ref")
	}
	return nil
}

// flag is how to set a query's flag; nil if it is none.
func (r *GitRef) flag(key string) func(on bool) {
	switch key {
	case "keep-git-dir":
		return func(on bool) { r.KeepGitDir = &on }
	case "submodules":
		return func(on bool) { r.Submodules = &on }
	case "fetch-by-commit":
		return func(on bool) { r.FetchByCommit = on }
	}
	return nil
}

// setOnce sets what may be said twice but not differently.
func setOnce(to *string, value, what string) error {
	if *to != "" && *to != value {
		return fmt.Errorf("%s conflicts: %q vs %q", what, *to, value)
	}
	*to = value
	return nil
}
