package image

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	t.Parallel()
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

// rootTar is a root file system that tools accept as one.
func rootTar() []byte { return tarOf("etc/hostname", "x\n", "hello", "hello\n") }

func TestOthersReadArchives(t *testing.T) {
	t.Parallel()
	long(t)
	l := openLayout(t, t.TempDir())
	img, err := l.Import(t.Context(), bytes.NewReader(rootTar()), Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tag(t, l, "user/app:v1", img)
	for _, test := range []struct {
		name      string
		transport string
		o         SaveOptions
	}{
		{"oci", "oci-archive", SaveOptions{}},
		{"oci-gzip", "oci-archive", SaveOptions{Compression: &Compression{Algorithm: Gzip}}},
		{"oci-zstd", "oci-archive", SaveOptions{Compression: &Compression{Algorithm: Zstd}}},
		{"docker", "docker-archive", SaveOptions{Format: DockerArchive}},
	} {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(file, save(t, l, test.o, "user/app:v1"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(test.name+"/skopeo and umoci", func(t *testing.T) {
			need(t, "skopeo")
			need(t, "umoci")
			dir := t.TempDir()
			run(t, "skopeo", "copy", "-q", test.transport+":"+file, "oci:"+dir+"/layout:x")
			if test.name == "oci-zstd" {
				return // umoci 0.4 cannot read zstd
			}
			run(t, "umoci", "unpack", "--rootless", "--image", dir+"/layout:x", dir+"/bundle")
			if got := read(t, dir+"/bundle/rootfs/hello"); got != "hello\n" {
				t.Errorf("unpacked %q", got)
			}
		})
		t.Run(test.name+"/podman load", func(t *testing.T) {
			need(t, "podman")
			podman := podmanIn(t)
			out := podman("load", "-i", file)
			if !strings.Contains(out, "docker.io/user/app:v1") {
				t.Errorf("podman load: %s", out)
			}
			if id := podman("image", "inspect", "-f", "{{.Id}}", "user/app:v1"); !strings.Contains(id, img.ID().Encoded()) {
				t.Errorf("podman has ID %s, want %s", id, img.ID())
			}
		})
	}
}

// TestOthersReadSeveral saves two images, one of them under two names and as a part of an index, in one archive.
func TestOthersReadSeveral(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	one, err := l.Import(t.Context(), bytes.NewReader(rootTar()), Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.Import(t.Context(), bytes.NewReader(tarOf("etc/hostname", "y\n", "hello", "two\n")), Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tag(t, l, "user/app:v1", one)
	tag(t, l, "user/app:v2", one)
	raw, x, err := NewIndex([]ocispec.Descriptor{two.Descriptor}, nil)
	if err == nil {
		_, err = l.Push(t.Context(), x, Bytes(raw))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Tag(t.Context(), mustParse(t, "other:v3"), x); err != nil {
		t.Fatal(err)
	}
	want := map[string]*Image{"docker.io/user/app:v1": one, "docker.io/user/app:v2": one, "docker.io/library/other:v3": two}
	for _, format := range []ArchiveFormat{OCIArchive, DockerArchive} {
		file := filepath.Join(t.TempDir(), "images.tar")
		if err := os.WriteFile(file, save(t, l, SaveOptions{Format: format}, "user/app:v1", "user/app:v2", "other:v3"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(string(format)+"/skopeo", func(t *testing.T) {
			need(t, "skopeo")
			for name, img := range want {
				for _, transport := range []string{"docker-archive:", "oci-archive:"} {
					var got Config
					out := run(t, "skopeo", "inspect", "--config", transport+file+":"+name)
					if err := json.Unmarshal([]byte(out), &got); err != nil || got.RootFS.DiffIDs[0] != img.Layers()[0].DiffID {
						t.Errorf("%s%s is %s", transport, name, out)
					}
				}
			}
		})
		t.Run(string(format)+"/podman", func(t *testing.T) {
			need(t, "podman")
			podman := podmanIn(t)
			podman("load", "-q", "-i", file)
			for name, img := range want {
				if id := podman("image", "inspect", "-f", "{{.Id}}", name); !strings.Contains(id, img.ID().Encoded()) {
					t.Errorf("podman has %s as %s, want %s", name, id, img.ID())
				}
			}
		})
	}
}

// podmanIn runs podman with a storage of its own.
func podmanIn(t *testing.T) func(args ...string) string {
	dir, err := os.MkdirTemp("", "") // t.TempDir is longer than podman allows
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	global := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}
	t.Cleanup(func() { exec.Command("podman", append(global, "rmi", "-af")...).Run() })
	return func(args ...string) string { return run(t, "podman", append(slices.Clone(global), args...)...) }
}

func TestReadArchivesOfOthers(t *testing.T) {
	t.Parallel()
	long(t)
	l := openLayout(t, t.TempDir())
	img, err := l.Import(t.Context(), bytes.NewReader(rootTar()), Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tag(t, l, "user/app:v1", img)
	dir := t.TempDir()
	file := dir + "/image.tar"
	if err := os.WriteFile(file, save(t, l, SaveOptions{}, "user/app:v1"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, archive, name string) {
		t.Helper()
		l := openLayout(t, t.TempDir())
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		images, err := l.Load(t.Context(), f, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(images) != 1 || images[0].Reference.String() != name {
			t.Errorf("names are %v, want %s", images, name)
		}
		got, err := l.Image(t.Context(), images[0].Descriptor, nil)
		if err != nil || got.Layers()[0].DiffID != img.Layers()[0].DiffID {
			t.Errorf("layers are %v, %v", got, err)
		}
	}
	for _, transport := range []string{"docker-archive", "oci-archive"} {
		t.Run("skopeo "+transport, func(t *testing.T) {
			need(t, "skopeo")
			to := filepath.Join(t.TempDir(), "x.tar")
			run(t, "skopeo", "copy", "-q", "oci-archive:"+file, transport+":"+to+":docker.io/user/app:v1")
			check(t, to, "docker.io/user/app:v1")
		})
		t.Run("podman save "+transport, func(t *testing.T) {
			need(t, "podman")
			podman := podmanIn(t)
			podman("load", "-q", "-i", file)
			to := filepath.Join(t.TempDir(), "x.tar")
			podman("save", "-q", "--format", transport, "-o", to, "user/app:v1")
			check(t, to, "docker.io/user/app:v1")
		})
	}
}
