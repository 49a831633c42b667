package registrytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
)

// environment is that of a home which has no configuration of registries.
func environment(home string) map[string]string {
	return map[string]string{
		"HOME": home, "XDG_CONFIG_HOME": "", "XDG_RUNTIME_DIR": "", "DOCKER_CONFIG": "", "DOCKER_AUTH_CONFIG": "", "REGISTRY_AUTH_FILE": "",
		"CONTAINERS_REGISTRIES_CONF":     filepath.Join(home, "registries.conf"),
		"CONTAINERS_REGISTRIES_CONF_DIR": filepath.Join(home, "none"),
	}
}

// Run is for TestMain: it runs the tests of a package away from the machine's own configuration of registries, so that they
// can run in parallel, and returns their exit status.
func Run(m *testing.M) int {
	home, err := os.MkdirTemp("", "registrytest-")
	if err == nil {
		defer os.RemoveAll(home)
		err = os.WriteFile(filepath.Join(home, "registries.conf"), nil, 0o600)
	}
	for name, value := range environment(home) {
		if err == nil {
			err = os.Setenv(name, value)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return m.Run()
}

// Home gives a test that writes configuration a home of its own, and returns it. Such a test cannot run in parallel.
func Home(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	for name, value := range environment(home) {
		t.Setenv(name, value)
	}
	if err := os.WriteFile(filepath.Join(home, "registries.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return home
}

// Push copies the image d of src into a registry, under ref.
func Push(t *testing.T, ref image.Reference, src *Memory, d ocispec.Descriptor) {
	t.Helper()
	repo, err := registry.NewClient(registry.Options{Limits: web.Limits{GiveUp: time.Minute}}).Connect(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref}); err != nil {
		t.Fatal(err)
	}
}

// Tool runs another program on what forge made, and returns its output. The test is skipped where the program is missing,
// unless FORGE_TEST_MUST names it.
func Tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	need(t, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), program) {
		t.Fatal(program + " is not installed")
	}
	t.Skip(program + " is not installed")
}
