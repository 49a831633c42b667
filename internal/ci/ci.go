// Package ci says what a job of a CI system is about: which branch, or which pull request.
//
// It is pure: it knows the variables that CI systems document, and reads nothing but what it is given.
package ci

import (
	"path"
	"slices"
	"strings"
)

// A Job is what a CI system says of the job that runs. The zero value is no job: a person's shell.
type Job struct {
	Provider    string // such as "github"; "" outside of all that are known
	Branch      string // that is built; of a pull request, the one it comes from. "" if a tag is built, or it is not known
	Tag         string // that is built; "" if it is none
	PullRequest string // its number, or its branch where the system gives no number; "" if the job is for none
	Base        string // the branch that the pull request is to go into; "" if it is not known
	Default     string // the repository's default branch; "" if the system does not say
}

// A provider is a CI system: the variable that shows it, and those that say the rest. The first that is set counts.
type provider struct {
	name, shown                                  string
	branch, tag, pullRequest, base, defaultNames []string
}

func providers() []provider {
	return []provider{
		{
			name: "github", shown: "GITHUB_ACTIONS", // of Gitea and Forgejo, too
			base: []string{"GITHUB_BASE_REF"},
		},
		{
			name: "gitlab", shown: "GITLAB_CI",
			branch: []string{"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH"}, tag: []string{"CI_COMMIT_TAG"},
			pullRequest:  []string{"CI_MERGE_REQUEST_IID", "CI_EXTERNAL_PULL_REQUEST_IID"},
			base:         []string{"CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME"},
			defaultNames: []string{"CI_DEFAULT_BRANCH"},
		},
		{
			name: "jenkins", shown: "JENKINS_URL",
			branch: []string{"CHANGE_BRANCH", "BRANCH_NAME", "GIT_LOCAL_BRANCH", "GIT_BRANCH"}, tag: []string{"TAG_NAME"},
			pullRequest: []string{"CHANGE_ID"}, base: []string{"CHANGE_TARGET"},
		},
		{
			name: "azure", shown: "TF_BUILD",
			branch:      []string{"SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH"},
			pullRequest: []string{"SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"},
			base:        []string{"SYSTEM_PULLREQUEST_TARGETBRANCH"},
		},
		{
			name: "circleci", shown: "CIRCLECI",
			branch: []string{"CIRCLE_BRANCH"}, tag: []string{"CIRCLE_TAG"},
			pullRequest: []string{"CIRCLE_PR_NUMBER", "CIRCLE_PULL_REQUEST"},
		},
		{
			name: "buildkite", shown: "BUILDKITE",
			branch: []string{"BUILDKITE_BRANCH"}, tag: []string{"BUILDKITE_TAG"}, pullRequest: []string{"BUILDKITE_PULL_REQUEST"},
			base: []string{"BUILDKITE_PULL_REQUEST_BASE_BRANCH"}, defaultNames: []string{"BUILDKITE_PIPELINE_DEFAULT_BRANCH"},
		},
		{
			name: "bitbucket", shown: "BITBUCKET_BUILD_NUMBER",
			branch: []string{"BITBUCKET_BRANCH"}, tag: []string{"BITBUCKET_TAG"},
			pullRequest: []string{"BITBUCKET_PR_ID"}, base: []string{"BITBUCKET_PR_DESTINATION_BRANCH"},
		},
		{
			name: "drone", shown: "DRONE",
			branch: []string{"DRONE_SOURCE_BRANCH", "DRONE_BRANCH"}, tag: []string{"DRONE_TAG"}, pullRequest: []string{"DRONE_PULL_REQUEST"},
			base: []string{"DRONE_TARGET_BRANCH"}, defaultNames: []string{"DRONE_REPO_BRANCH"},
		},
		{
			name: "woodpecker", shown: "CI_PIPELINE_EVENT",
			branch: []string{"CI_COMMIT_SOURCE_BRANCH", "CI_COMMIT_BRANCH"}, tag: []string{"CI_COMMIT_TAG"},
			pullRequest: []string{"CI_COMMIT_PULL_REQUEST"}, base: []string{"CI_COMMIT_TARGET_BRANCH"},
			defaultNames: []string{"CI_REPO_DEFAULT_BRANCH"},
		},
	}
}

// Detect reads the variables of an environment.
func Detect(getenv func(name string) string) Job {
	for _, p := range providers() {
		if v := getenv(p.shown); v == "" || v == "false" {
			continue
		}
		first := func(names []string) string {
			for _, name := range names {
				if v := getenv(name); v != "" && v != "false" {
					return v
				}
			}
			return ""
		}
		j := Job{
			Provider: p.name, Branch: plain(first(p.branch)), Tag: first(p.tag), PullRequest: path.Base("/" + first(p.pullRequest)),
			Base: plain(first(p.base)), Default: plain(first(p.defaultNames)),
		}
		if j.PullRequest == "/" {
			j.PullRequest = ""
		}
		if p.name == "github" {
			j.github(getenv)
		}
		if j.PullRequest == "" {
			j.Base = "" // some systems name a target of every build
		}
		return j.tagged()
	}
	return Job{}
}

// github reads GITHUB_REF. Whoever has a base is a pull request, also where it runs with the rights of that base
// (pull_request_target), and GITHUB_REF names the base.
func (j *Job) github(getenv func(string) string) {
	ref := getenv("GITHUB_REF")
	if rest, ok := strings.CutPrefix(ref, "refs/pull/"); ok {
		j.PullRequest, _, _ = strings.Cut(rest, "/")
	}
	if j.Base != "" {
		j.Branch = getenv("GITHUB_HEAD_REF")
		if j.PullRequest == "" {
			j.PullRequest = j.Branch
		}
		return
	}
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		j.Tag = tag
	} else if j.PullRequest == "" {
		j.Branch = plain(ref)
	}
}

// tagged takes what is said to be a branch and is a tag for that.
func (j Job) tagged() Job {
	if tag, ok := strings.CutPrefix(j.Branch, "refs/tags/"); ok {
		j.Branch, j.Tag = "", tag
	}
	if j.Tag != "" {
		j.Branch = ""
	}
	return j
}

// plain is the name of a branch without what some systems put before it.
func plain(branch string) string {
	return strings.TrimPrefix(strings.TrimPrefix(branch, "refs/heads/"), "origin/")
}

// fallback is the branch that is read where no system says which is the default.
const fallback = "main"

// Scopes are the names under which a job keeps what it caches: write is its own, and read lists those that it trusts, its own first.
// asked is the scope that was asked for, "" for the branch's.
//
// A pull request reads the branch that it is to go into and never writes it. Its scope, and that of tags, has a name that no branch
// can have: git allows no colon. It has one of its own beside the one that was asked for, which others read.
func (j Job) Scopes(asked string) (write string, read []string) {
	switch {
	case j.PullRequest != "" && asked != "":
		write = "pr:" + j.PullRequest + ":" + asked
	case j.PullRequest != "":
		write = "pr:" + j.PullRequest
	case asked != "":
		write = asked
	case j.Tag != "":
		write = "tags:"
	case j.Branch != "":
		write = j.Branch
	default:
		write = j.defaultBranch()
	}
	for _, scope := range []string{write, asked, j.Base, j.defaultBranch()} {
		if scope != "" && !slices.Contains(read, scope) {
			read = append(read, scope)
		}
	}
	return write, read
}

func (j Job) defaultBranch() string {
	if j.Default != "" {
		return j.Default
	}
	return fallback
}
