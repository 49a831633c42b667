package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCorpusChroot builds each third of the cases of RUN by chroot: the images are those of namespaces. With FORGE_ISOLATION=chroot
// TestCorpus builds all of them.
func TestCorpusChroot(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, need := range []string{"root", "busybox", "git"} {
		if ok, _ := condition(t, need); !ok {
			t.Skip("needs ", need)
		}
	}
	c := newCorpus(t)
	c.isolation = "chroot"
	c.third(t)
}

// third does each third of the cases of RUN, without those that need namespaces.
func (c *corpus) third(t *testing.T) {
	for _, pattern := range []string{"run_*", "mount_*"} {
		names, err := filepath.Glob("../../testdata/corpus/" + pattern + ".txtar")
		if err != nil || len(names) == 0 {
			t.Fatal("no cases", err)
		}
		for i, name := range names {
			title := strings.TrimSuffix(filepath.Base(name), ".txtar")
			if i%3 > 0 || slices.Contains(casesOfNamespaces(), title) {
				continue
			}
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				c.test(t, name)
			})
		}
	}
}

// casesOfNamespaces look at what only namespaces and mounts give, as docs/security.md says.
func casesOfNamespaces() []string {
	return []string{
		"run_hostname", "run_hostname_argument", // the machine's
		"run_process",                          // not process 1
		"run_capabilities",                     // told by /proc, which has no processes
		"run_insecure",                         // refused
		"run_network_flag", "run_network_none", // refused
		"run_shm_size", "mount_tmpfs_relative", "mount_tmpfs_size", // no file systems of their own
		"run_etc_hosts_removed",                                // it is a file like others
		"mount_bind", "mount_cache_readonly", "mount_conflict", // nothing is read-only
	}
}
