package cloud

import (
	"cmp"
	"context"
	"strings"
	"time"
)

// forLong is until when variables are good: as long as the process.
func forLong() time.Time { return time.Now().Add(24 * time.Hour) }

// envLogin reads kaniko's variables of a registry: KANIKO_GHCR_IO_USER and KANIKO_GHCR_IO_PASSWORD, or those of a domain that the host is in.
func (h *Helpers) envLogin(_ context.Context, host string) (Login, error) {
	if host == "docker.io" {
		host = "index.docker.io" // as kaniko calls it
	}
	for rest, ok := host, true; ok; _, rest, ok = strings.Cut(rest, ".") {
		name := "KANIKO_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", ":", "_").Replace(rest))
		user, password := h.env(name+"_USER"), h.env(name+"_PASSWORD")
		if user != "" && password != "" {
			return Login{Username: user, Password: password, until: forLong()}, nil
		}
	}
	return Login{}, nil
}

// isGitLab reports whether a host is the registry of the GitLab that runs the job.
func (h *Helpers) isGitLab(host string) bool {
	own := strings.ToLower(h.env("CI_REGISTRY"))
	if _, rest, ok := strings.Cut(own, "://"); ok {
		own = rest
	}
	own, _, _ = strings.Cut(own, "/")
	return own != "" && strings.TrimSuffix(own, ":443") == strings.TrimSuffix(host, ":443")
}

// gitlabLogin reads the variables that GitLab gives each job.
func (h *Helpers) gitlabLogin(context.Context, string) (Login, error) {
	const jobUser = "gitlab-ci-token" // whose password is the token of a job
	user, password := cmp.Or(h.env("CI_REGISTRY_USER"), jobUser), h.env("CI_REGISTRY_PASSWORD")
	if password == "" {
		user, password = jobUser, h.env("CI_JOB_TOKEN")
	}
	if password == "" {
		return Login{}, nil
	}
	return Login{Username: user, Password: password, until: forLong()}, nil
}
