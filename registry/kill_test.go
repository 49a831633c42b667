package registry_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
	"github.com/forge-build/forge/registry/server"
)

// TestKillPull kills pulls at random times: what has a name is whole, and the next pull works.
func TestKillPull(t *testing.T) {
	long(t)
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 2<<20, 1<<20, 500_000, 10)
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for range 3 {
		root := t.TempDir()
		for range 6 {
			cmd := pullProcess(t, root, ref)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			checkWhole(t, root, ref)
		}
		if err := pullTo(t.Context(), t, root, ref, false); err != nil {
			t.Fatal(err)
		}
		checkLayout(t, root, ref, true)
	}
}

// checkWhole makes sure that the image is whole if it has its name.
func checkWhole(t *testing.T, root string, ref image.Reference) {
	t.Helper()
	l := openLayout(t, root)
	d, err := l.Resolve(t.Context(), ref)
	if err != nil {
		return
	}
	img, err := l.Image(t.Context(), d, &amd64)
	if err != nil {
		t.Fatalf("image has a name and cannot be read: %v", err)
	}
	for _, layer := range img.Layers() {
		if f, err := l.OpenTar(t.Context(), layer); err != nil {
			t.Errorf("image has a name and misses layer %s: %v", layer.DiffID, err)
		} else if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHelperServe is a process that serves a registry.
func TestHelperServe(t *testing.T) {
	root, addr := os.Getenv("FORGE_TEST_SERVE_ROOT"), os.Getenv("FORGE_TEST_SERVE_ADDR")
	if root == "" {
		t.Skip("is a part of other tests")
	}
	s, err := server.New(context.Background(), server.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), l); err != nil {
		t.Fatal(err)
	}
}

func serveProcess(t *testing.T, root, addr string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperServe$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "FORGE_TEST_SERVE_ROOT="+root, "FORGE_TEST_SERVE_ADDR="+addr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return cmd
}

// TestKillServer kills a registry while it is pushed to: what it lists afterwards can be pulled, and it takes the rest.
func TestKillServer(t *testing.T) {
	long(t)
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "registry")
	src := registrytest.NewMemory()
	rng := rand.New(rand.NewPCG(2, uint64(time.Now().UnixNano())))
	for i := range 8 {
		cmd := serveProcess(t, root, addr)
		ref := registrytest.Ref(t, fmt.Sprintf("%s/app:v%d", addr, i))
		d := src.AddImage(t, uint64(i), amd64, false, 1<<20, 500_000, 10)
		done := make(chan error, 1)
		go func() {
			repo, err := registry.NewClient(registry.Options{Limits: quick}).Connect(ref)
			if err == nil {
				_, err = registry.Copy(context.Background(), repo, src, d, registry.CopyOptions{Name: ref})
			}
			done <- err
		}()
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		pushed := <-done == nil
		cmd = serveProcess(t, root, addr)
		repo := connect(t, ref, registry.Options{})
		tags, err := repo.Tags(t.Context())
		if err != nil && !contains(err.Error(), "NAME_UNKNOWN") {
			t.Fatal(err)
		}
		listed := false
		for _, tag := range tags {
			listed = listed || tag == ref.Tag
			one := ref
			one.Tag = tag
			if _, err := pull(t.Context(), connect(t, one, registry.Options{}), registry.CopyOptions{}); err != nil {
				t.Errorf("%s is listed and cannot be pulled: %v", one, err)
			}
		}
		if pushed && !listed {
			t.Errorf("%s was acknowledged and is gone", ref)
		}
		if _, err := registry.Copy(t.Context(), repo, src, d, registry.CopyOptions{Name: ref}); err != nil {
			t.Errorf("push after the kill: %v", err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
