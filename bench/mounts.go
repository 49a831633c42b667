package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// mountFiles is how many files a cache mount has here, half of them of 80 kB that do not compress, half of 20 kB that do: 800 MB.
const mountFiles = 16_000

// fillMount writes the content of a cache mount into a directory.
func fillMount(dir string) error {
	r := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 80_000)
	for i := range mountFiles {
		name := filepath.Join(dir, fmt.Sprintf("%02x", i%256), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		content := []byte(strings.Repeat(fmt.Sprintf("%010d", i), 2_000))
		if i%2 == 0 {
			_, _ = r.Read(noise) // which never fails
			content = noise
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mountBench is a build whose step leaves 800 MB in a cache mount, kept in a registry.
type mountBench struct {
	*bench
	registry string
	dir      string // context
}

func (b *bench) mountBench(name string) (*mountBench, error) {
	registry, err := b.registry()
	if err != nil {
		return nil, err
	}
	base := registry + "/base:1"
	for _, args := range [][]string{{"tag", "bench/base", base}, {"push", "-q", base}} {
		if err := b.quietly(args...); err != nil {
			return nil, err
		}
	}
	text := "ARG BASE\nFROM $BASE\nRUN --mount=type=bind,target=/src --mount=type=cache,target=/c " +
		"if [ -d /c/data ]; then cp /src/new /c/data/00/$(cat /proc/sys/kernel/random/uuid); else cp -r /src/data /c; fi\n"
	m := &mountBench{bench: b, registry: registry}
	if m.dir, err = b.context(name, text, map[string]string{"new": strings.Repeat("one more dependency\n", 15_000)}); err != nil {
		return nil, err
	}
	if err := fillMount(filepath.Join(m.dir, "data")); err != nil {
		return nil, err
	}
	return m, b.quietly(m.build()...)
}

// build is a build whose step runs, behind the given arguments.
func (m *mountBench) build(flags ...string) []string {
	return append(flags, "build", "-q", "--no-cache", "--cache", m.registry+"/cache:main", "--build-arg", "BASE="+m.registry+"/base:1",
		"-t", "mounted", m.dir)
}

// mountSaveCase keeps a cache mount after a file was added to it, beside reading and hashing all of it.
func mountSaveCase(b *bench) ([]contestant, error) {
	m, err := b.mountBench("mount-save")
	if err != nil {
		return nil, err
	}
	return []contestant{
		{name: "forge, build and save", args: m.build(b.forge)},
		{name: "read and hash it", do: func() error { return hashAll(filepath.Join(m.dir, "data")) }, floor: true},
	}, nil
}

func hashAll(dir string) error {
	h := sha256.New()
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		h.Write(content)
		return err
	})
}

// lineRate is a gigabit a second, in bytes.
const lineRate = 125_000_000

// mountRestoreCase fetches a cache mount to a machine that has nothing, over a gigabit line, beside the download of its packs.
func mountRestoreCase(b *bench) ([]contestant, error) {
	m, err := b.mountBench("mount-restore")
	if err != nil {
		return nil, err
	}
	if m.registry, err = throttled(m.registry, lineRate); err != nil {
		return nil, err
	}
	store := filepath.Join(b.dir, "restored")
	fresh := func() error { return os.RemoveAll(store) }
	return []contestant{
		{name: "forge, build and restore", before: fresh, args: m.build(b.forge, "--store", store)},
		{name: "download of its packs", before: fresh, do: func() error { return m.download(store) }, floor: true},
	}, nil
}

// download fetches all that the manifest of the mount names.
func (m *mountBench) download(to string) error {
	api := "http://" + m.registry + "/v2/cache/"
	var list struct{ Tags []string }
	if err := getJSON(api+"tags/list", &list); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, tag := range list.Tags {
		if !strings.HasPrefix(tag, "forge-mount-v1-") {
			continue
		}
		var manifest struct{ Layers []struct{ Digest string } }
		if err := getJSON(api+"manifests/"+tag, &manifest); err != nil {
			return err
		}
		for _, l := range manifest.Layers {
			if err := fetchTo(api+"blobs/"+l.Digest, filepath.Join(to, strings.TrimPrefix(l.Digest, "sha256:"))); err != nil {
				return err
			}
		}
	}
	return nil
}

func getJSON(url string, into any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

func fetchTo(url, path string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		return err
	}
	return f.Close()
}
