package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A buildkit is a daemon of BuildKit on which nothing was built yet. It needs buildkitd, buildctl and runc.
type buildkit struct {
	dir     string
	daemon  string
	control string
	running *exec.Cmd
}

// newBuildkit prepares a daemon that may speak HTTP to a registry; nil if there is none on this machine.
func (b *bench) newBuildkit(registry string) (*buildkit, error) {
	k := &buildkit{dir: filepath.Join(b.dir, "buildkit")}
	for name, path := range map[string]*string{"buildkitd": &k.daemon, "buildctl": &k.control, "runc": new(string)} {
		found, err := exec.LookPath(name)
		if err != nil {
			return nil, nil
		}
		*path = found
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return nil, err
	}
	b.end = append(b.end, k.stop)
	return k, os.WriteFile(filepath.Join(k.dir, "buildkitd.toml"), fmt.Appendf(nil, "[registry.%q]\nhttp = true\n", registry), 0o644)
}

// start starts the daemon with an empty store, in a mount namespace of its own, and waits until it answers.
func (k *buildkit) start() error {
	if err := k.stop(); err != nil {
		return err
	}
	k.running = exec.Command("unshare", "-m", k.daemon, "--config", filepath.Join(k.dir, "buildkitd.toml"), "--root", filepath.Join(k.dir, "root"),
		"--addr", k.addr(), "--containerd-worker=false", "--oci-worker=true", "--oci-worker-snapshotter=native")
	if err := k.running.Start(); err != nil {
		return err
	}
	var err error
	for range 300 {
		if err = exec.Command(k.control, "--addr", k.addr(), "debug", "workers").Run(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("buildkitd: %w", err)
}

func (k *buildkit) addr() string { return "unix://" + filepath.Join(k.dir, "s") }

// stop ends the daemon and removes what it has.
func (k *buildkit) stop() error {
	if k.running != nil {
		_ = k.running.Process.Kill() // unshare has become the daemon
		_ = k.running.Wait()
		k.running = nil
	}
	return os.RemoveAll(filepath.Join(k.dir, "root"))
}

// build builds a context and pushes it as a name.
func (k *buildkit) build(dir, base, name string, flags ...string) []string {
	args := []string{
		k.control, "--addr", k.addr(), "build", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir,
		"--opt", "build-arg:BASE=" + base, "--output", "type=image,push=true,name=" + name,
	}
	return append(args, flags...)
}

// kitBuilds is BuildKit building a context, if there is one on this machine. The base comes from the registry.
func (b *bench) kitBuilds(dir string, before func() error, flags ...string) []contestant {
	registry, err := b.registry()
	if err != nil {
		return nil
	}
	base := registry + "/base:1"
	if b.kit == nil {
		k, err := b.newBuildkit(registry)
		if k == nil || err != nil {
			return nil
		}
		if b.quietly("tag", "bench/base", base) != nil || b.quietly("push", "-q", base) != nil || k.start() != nil {
			return nil
		}
		b.kit = k
	}
	args := []string{
		b.kit.control, "--addr", b.kit.addr(), "build", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir,
		"--opt", "context:bench/base=docker-image://" + base, "--output", "type=image,name=bench/" + filepath.Base(dir),
	}
	return []contestant{{name: "BuildKit", before: before, peer: true, args: append(args, flags...)}}
}

// farBuildkit is the build of farCase by BuildKit, from a cache of mode=max in the registry; nil if there is no BuildKit.
func (b *bench) farBuildkit(dir, far string) ([]contestant, error) {
	k, err := b.newBuildkit(far)
	if k == nil || err != nil {
		return nil, err
	}
	if err := k.start(); err != nil {
		return nil, err
	}
	cache := "type=registry,ref=" + far + "/buildkit:cache"
	base := far + "/base:1"
	first := k.build(dir, base, far+"/buildkit:0", "--export-cache", cache+",mode=max,image-manifest=true,oci-mediatypes=true")
	if out, err := exec.Command(first[0], first[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("buildctl: %w\n%s", err, out)
	}
	return []contestant{{name: "BuildKit, mode=max", before: k.start, args: k.build(dir, base, far+"/buildkit:1", "--import-cache", cache)}}, nil
}
