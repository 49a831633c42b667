package source

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/forge-build/forge/internal/web"
)

// A Git is a repository, and what to read of it, as a build file or a command line names it.
type Git struct {
	remote     string // what git is told: no fragment, no query
	ref        string // branch, tag, "refs/…" or commit; "" is the default branch
	subdir     string // clean and relative; "." is all
	checksum   string // prefix of the commit that it must be
	keepGitDir *bool  // ?keep-git-dir
	submodules bool
	commitTime bool // files are as old as the commit, not as the checkout
}

// ParseGit reads a repository's address; see parseGit. What git could take for something else is refused.
func ParseGit(s string) (Git, error) {
	g, err := parseGit(s)
	if err == nil {
		err = g.check()
	}
	return g, err
}

// parseGit reads a repository's address: http(s)://….git, git://, ssh://, git@host:path, each with "#ref:subdir" or
// "?ref=…&subdir=…". It is the language of BuildKit's build files.
func parseGit(s string) (Git, error) {
	g := Git{submodules: true, subdir: "."}
	rest, fragment, _ := strings.Cut(s, "#")
	rest, query, _ := strings.Cut(rest, "?")
	switch scheme, _, ok := strings.Cut(rest, "://"); {
	case ok:
		switch strings.ToLower(scheme) {
		case "http", "https", "ssh", "git":
		default:
			return g, fmt.Errorf("%s: git is not spoken over %q", web.Redact(rest), scheme)
		}
		if _, err := url.Parse(rest); err != nil {
			return g, errors.New("not the address of a repository")
		}
	case isSCP(rest):
	case strings.HasPrefix(rest, "github.com/"):
		rest = "https://" + rest
	default:
		return g, fmt.Errorf("%q is not the address of a repository", web.Redact(s))
	}
	if strings.HasPrefix(rest, "-") {
		return g, fmt.Errorf("%q is not the address of a repository", web.Redact(s))
	}
	g.remote = rest
	if fragment != "" {
		ref, subdir, _ := strings.Cut(fragment, ":")
		g.ref, g.subdir = ref, inTree(subdir)
	}
	return g, g.query(query)
}

// isSCP reports whether an address is user@host:path.
func isSCP(s string) bool {
	host, p, ok := strings.Cut(s, ":")
	user, host, at := strings.Cut(host, "@")
	return ok && at && user != "" && host != "" && p != "" && !strings.ContainsAny(user+host, "/ \t") && !strings.HasPrefix(s, "-")
}

// query reads the part of the address after "?".
func (g *Git) query(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("query %q: %w", query, err)
	}
	for key, v := range values {
		if len(v) > 1 {
			return fmt.Errorf("query %q has multiple values", key)
		}
		value := v[0]
		flag := key == "submodules" || key == "keep-git-dir" || key == "fetch-by-commit"
		if value == "" && !flag {
			return fmt.Errorf("query %q has no value", key)
		}
		switch key {
		case "ref":
			err = g.setRef(value)
		case "tag":
			err = g.setRef("refs/tags/" + strings.TrimPrefix(value, "refs/tags/"))
		case "branch":
			err = g.setRef("refs/heads/" + strings.TrimPrefix(value, "refs/heads/"))
		case "subdir":
			if g.subdir != "." && g.subdir != inTree(value) {
				return fmt.Errorf("subdir conflicts: %q vs %q", g.subdir, value)
			}
			g.subdir = inTree(value)
		case "checksum", "commit":
			g.checksum = value
		case "keep-git-dir", "submodules", "fetch-by-commit":
			on := true
			if value != "" {
				if on, err = strconv.ParseBool(value); err != nil {
					return fmt.Errorf("invalid %s value: %q", key, value)
				}
			}
			g.setFlag(key, on)
		case "mtime":
			if value != "checkout" && value != "commit" {
				return fmt.Errorf("invalid mtime value: %q (must be \"checkout\" or \"commit\")", value)
			}
			g.commitTime = value == "commit"
		default:
			return fmt.Errorf("unexpected query %q", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *Git) setRef(ref string) error {
	if g.ref != "" && g.ref != ref {
		return fmt.Errorf("ref conflicts: %q vs %q", g.ref, ref)
	}
	g.ref = ref
	return nil
}

// setFlag sets a flag. How a commit is fetched is decided by what the server can do, not by fetch-by-commit.
func (g *Git) setFlag(key string, on bool) {
	switch key {
	case "keep-git-dir":
		g.keepGitDir = &on
	case "submodules":
		g.submodules = on
	}
}

// check refuses what git could take for something else.
func (g *Git) check() error {
	if strings.HasPrefix(g.ref, "-") || strings.ContainsAny(g.ref, " \t\n\x00~^:?*[\\") || strings.Contains(g.ref, "..") {
		return fmt.Errorf("ref %q is not valid", g.ref)
	}
	if strings.Trim(g.checksum, "0123456789abcdefABCDEF") != "" {
		return fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", g.checksum)
	}
	return nil
}

// matches reports whether a commit is what the checksum asks for.
func (g *Git) matches(commit string) bool {
	return g.checksum == "" || strings.HasPrefix(commit, strings.ToLower(g.checksum))
}

// isCommit reports whether s is a whole commit hash.
func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
