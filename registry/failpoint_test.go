//go:build failpoint

package registry_test

import (
	"testing"

	"github.com/forge-build/forge/registry/registrytest"
)

// TestFailpointPull dies, or fails, at each point of a pull: what has a name is whole, and the next pull works.
func TestFailpointPull(t *testing.T) {
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 1<<20, 10)
	for _, point := range []string{
		"registry.download.kept", "registry.download.before-publish", "registry.download.before-release",
		"registry.copy.before-manifests", "registry.copy.before-name",
	} {
		for _, action := range []string{"kill", "error"} {
			root := t.TempDir()
			t.Setenv("FORGE_FAILPOINT", point+":"+action)
			if out, err := pullProcess(t, root, ref).CombinedOutput(); err == nil {
				t.Errorf("%s:%s did not happen:\n%s", point, action, out)
			}
			t.Setenv("FORGE_FAILPOINT", "")
			checkWhole(t, root, ref)
			if err := pullTo(t.Context(), t, root, ref, false); err != nil {
				t.Errorf("after %s:%s: %v", point, action, err)
				continue
			}
			checkLayout(t, root, ref, true)
		}
	}
}
