package image

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// need skips a test that cannot run without a program, or fails it where it must run.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), program) {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestOthersReadTheLayout(t *testing.T) {
	root := t.TempDir()
	l := openLayout(t, root)
	img := writeImage(t, l, "hello")
	tag(t, l, "user/app:v1", img)
	layout := filepath.Join(root, "images")
	t.Run("skopeo", func(t *testing.T) {
		need(t, "skopeo")
		var got struct{ Digest string }
		out := run(t, "skopeo", "inspect", "oci:"+layout+":docker.io/user/app:v1")
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.Digest != string(img.Descriptor.Digest) {
			t.Errorf("skopeo inspect: %v\n%s", err, out)
		}
	})
	t.Run("umoci", func(t *testing.T) {
		need(t, "umoci")
		dir := filepath.Join(t.TempDir(), "bundle")
		run(t, "umoci", "unpack", "--rootless", "--image", layout+":docker.io/user/app:v1", dir)
		if got := read(t, filepath.Join(dir, "rootfs/file")); got != "hello" {
			t.Errorf("umoci unpacked %q", got)
		}
	})
}
