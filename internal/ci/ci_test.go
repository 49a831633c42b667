package ci_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forge-build/forge/internal/ci"
)

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ env, asked, want string }{
		{"", "", "main: main"},
		{"", "mine", "mine: mine main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/heads/main", "", "main: main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/heads/fix/x", "", "fix/x: fix/x main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/heads/fix GITHUB_HEAD_REF= GITHUB_BASE_REF=", "arm", "arm: arm main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/pull/7/merge GITHUB_HEAD_REF=main GITHUB_BASE_REF=main", "", "pr:7: pr:7 main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/pull/7/merge GITHUB_HEAD_REF=x GITHUB_BASE_REF=release", "", "pr:7: pr:7 release main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/pull/7/merge GITHUB_HEAD_REF=x GITHUB_BASE_REF=main", "main", "pr:7:main: pr:7:main main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/pull/7/merge GITHUB_HEAD_REF=x GITHUB_BASE_REF=main", "arm", "pr:7:arm: pr:7:arm arm main"},
		// The code of a stranger, with the rights of the base.
		{"GITHUB_ACTIONS=true GITHUB_EVENT_NAME=pull_request_target GITHUB_REF=refs/heads/main GITHUB_HEAD_REF=evil GITHUB_BASE_REF=main", "", "pr:evil: pr:evil main"},
		{"GITHUB_ACTIONS=true GITHUB_EVENT_NAME=pull_request_target GITHUB_REF=refs/heads/main GITHUB_HEAD_REF=main GITHUB_BASE_REF=main", "", "pr:main: pr:main main"},
		{"GITHUB_ACTIONS=true GITHUB_REF=refs/tags/v1", "", "tags:: tags: main"},
		{"GITLAB_CI=true CI_COMMIT_BRANCH=x CI_DEFAULT_BRANCH=trunk", "", "x: x trunk"},
		{"GITLAB_CI=true CI_COMMIT_BRANCH=trunk CI_DEFAULT_BRANCH=trunk", "", "trunk: trunk"},
		{"GITLAB_CI=true CI_COMMIT_TAG=v1 CI_DEFAULT_BRANCH=trunk", "", "tags:: tags: trunk"},
		{"GITLAB_CI=true CI_MERGE_REQUEST_IID=3 CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=x CI_MERGE_REQUEST_TARGET_BRANCH_NAME=stable CI_DEFAULT_BRANCH=trunk", "", "pr:3: pr:3 stable trunk"},
		{"JENKINS_URL=http://j BRANCH_NAME=PR-9 CHANGE_ID=9 CHANGE_TARGET=main CHANGE_BRANCH=x", "", "pr:9: pr:9 main"},
		{"JENKINS_URL=http://j GIT_BRANCH=origin/main", "", "main: main"},
		{"TF_BUILD=True BUILD_SOURCEBRANCH=refs/heads/x", "", "x: x main"},
		{"TF_BUILD=True BUILD_SOURCEBRANCH=refs/tags/v2", "", "tags:: tags: main"},
		{"TF_BUILD=True BUILD_SOURCEBRANCH=refs/pull/4/merge SYSTEM_PULLREQUEST_PULLREQUESTID=4 SYSTEM_PULLREQUEST_TARGETBRANCH=refs/heads/main", "", "pr:4: pr:4 main"},
		{"CIRCLECI=true CIRCLE_BRANCH=x CIRCLE_PULL_REQUEST=https://github.com/a/b/pull/12", "", "pr:12: pr:12 main"},
		{"BUILDKITE=true BUILDKITE_BRANCH=x BUILDKITE_PULL_REQUEST=false BUILDKITE_PIPELINE_DEFAULT_BRANCH=master", "", "x: x master"},
		{"BUILDKITE=true BUILDKITE_BRANCH=x BUILDKITE_PULL_REQUEST=5 BUILDKITE_PULL_REQUEST_BASE_BRANCH=dev BUILDKITE_PIPELINE_DEFAULT_BRANCH=master", "", "pr:5: pr:5 dev master"},
		{"BITBUCKET_BUILD_NUMBER=1 BITBUCKET_BRANCH=x BITBUCKET_PR_ID=2 BITBUCKET_PR_DESTINATION_BRANCH=main", "", "pr:2: pr:2 main"},
		{"DRONE=true DRONE_BRANCH=main DRONE_TARGET_BRANCH=main DRONE_REPO_BRANCH=main", "", "main: main"},
		{"CI_PIPELINE_EVENT=pull_request CI_COMMIT_BRANCH=main CI_COMMIT_TARGET_BRANCH=main CI_COMMIT_SOURCE_BRANCH=x CI_COMMIT_PULL_REQUEST=8", "", "pr:8: pr:8 main"},
	} {
		env := map[string]string{}
		for _, v := range strings.Fields(test.env) {
			name, value, _ := strings.Cut(v, "=")
			env[name] = value
		}
		write, read := ci.Detect(func(name string) string { return env[name] }).Scopes(test.asked)
		if got := fmt.Sprintf("%s: %s", write, strings.Join(read, " ")); got != test.want {
			t.Errorf("%s, asked %q: got %q, want %q", test.env, test.asked, got, test.want)
		}
	}
}
