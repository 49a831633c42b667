package forge_test

import (
	"os"
	"slices"
	"testing"

	"github.com/forge-build/forge"
)

// TestLocalPaths: what a build reads beside its build file is told, too: it may be a link to anywhere.
func TestLocalPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/context/a", "a")
	write(t, dir+"/sub/Dockerfile", "FROM scratch\n")
	o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: dir + "/context", File: dir + "/sub/Dockerfile"}}
	check := func(want ...string) {
		t.Helper()
		if reads, writes := o.LocalPaths(); !slices.Equal(reads, want) || len(writes) > 0 {
			t.Errorf("reads %q and writes %q, want %q", reads, writes, want)
		}
	}
	check(dir+"/context", dir+"/sub/Dockerfile")
	for _, name := range []string{"Dockerfile.dockerignore", "forge.lock"} {
		if err := os.Symlink("../nowhere", dir+"/sub/"+name); err != nil {
			t.Fatal(err)
		}
	}
	check(dir+"/context", dir+"/sub/Dockerfile", dir+"/sub/Dockerfile.dockerignore", dir+"/sub/forge.lock")
}
