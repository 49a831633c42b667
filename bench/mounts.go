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

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
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
	dir      string // context of the build that fills the mount
	later    string // and of those that add to it
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
	for _, context := range []*string{&m.dir, &m.later} {
		files := map[string]string{"new": strings.Repeat("one more dependency\n", 15_000)}
		if *context, err = b.context(name, text, files); err != nil {
			return nil, err
		}
		name += "-later"
	}
	if err := fillMount(filepath.Join(m.dir, "data")); err != nil {
		return nil, err
	}
	return m, b.quietly(m.build(m.dir, "--cache", registry+"/cache:main")...)
}

// build is a build of a context whose step runs.
func (m *mountBench) build(dir string, cache ...string) []string {
	return append(append([]string{"build", "-q", "--no-cache", "--build-arg", "BASE=" + m.registry + "/base:1", "-t", "mounted"}, cache...), dir)
}

// mountSaveCase keeps a cache mount after a file was added to it, beside reading and hashing all of it.
func mountSaveCase(b *bench) ([]contestant, error) {
	m, err := b.mountBench("mount-save")
	if err != nil {
		return nil, err
	}
	return []contestant{
		{name: "forge, build and save", args: append([]string{b.forge}, m.build(m.later, "--cache", m.registry+"/cache:main")...)},
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

// mountLine is a gigabit a second, 30 ms away.
func mountLine() *line { return &line{rate: 125_000_000, rtt: farRTT} }

// mountRestoreCase fetches a cache mount to a machine that has nothing, over a line, beside the download of its packs.
func mountRestoreCase(b *bench) ([]contestant, error) {
	m, err := b.mountBench("mount-restore")
	if err != nil {
		return nil, err
	}
	if m.registry, err = mountLine().to(m.registry); err != nil {
		return nil, err
	}
	return append(m.restore(), contestant{name: "download of its packs", before: m.fresh, do: m.download, floor: true}), nil
}

// mountNearCase is that without the line, beside the download of the packs while as many files are written: here the disk is what takes the time.
func mountNearCase(b *bench) ([]contestant, error) {
	m, err := b.mountBench("mount-near")
	if err != nil {
		return nil, err
	}
	return append(m.restore(),
		contestant{name: "download, write its files", before: m.fresh, do: m.downloadAndWrite, floor: true},
		contestant{name: "download of its packs", before: m.fresh, do: m.download}), nil
}

// restore is a build that fetches the mount and does not keep it: what is measured is the whole program, the step and its commit too.
func (m *mountBench) restore() []contestant {
	from := []string{"--cache-from", "type=registry,ref=" + m.registry + "/cache", "--cache-scope", "main"}
	return []contestant{{
		name: "forge, build and restore", before: m.fresh, args: append([]string{m.forge, "--store", m.store()}, m.build(m.later, from...)...),
	}}
}

func (m *mountBench) store() string { return filepath.Join(m.bench.dir, "restored") }

// fresh is a machine that has nothing, and whose disk has nothing to do.
func (m *mountBench) fresh() error {
	err := os.RemoveAll(m.store())
	unix.Sync()
	return err
}

// downloads is how many packs are fetched at a time, as forge does.
const downloads = 4

// download fetches all that the manifest of the mount names.
func (m *mountBench) download() error {
	api := "http://" + m.registry + "/v2/cache/"
	var list struct{ Tags []string }
	if err := getJSON(api+"tags/list", &list); err != nil {
		return err
	}
	if err := os.MkdirAll(m.store(), 0o755); err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(downloads)
	for _, tag := range list.Tags {
		if !strings.HasPrefix(tag, "forge-mount-v1-") {
			continue
		}
		var manifest struct{ Layers []struct{ Digest string } }
		if err := getJSON(api+"manifests/"+tag, &manifest); err != nil {
			return err
		}
		for _, l := range manifest.Layers {
			all.Go(func() error {
				return fetchTo(api+"blobs/"+l.Digest, filepath.Join(m.store(), strings.TrimPrefix(l.Digest, "sha256:")))
			})
		}
	}
	return all.Wait()
}

// downloadAndWrite fetches the packs and writes the files of the mount side by side.
func (m *mountBench) downloadAndWrite() error {
	var both errgroup.Group
	both.Go(m.download)
	both.Go(func() error { return fillMount(filepath.Join(m.store(), "files")) })
	return both.Wait()
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
