package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// workCases are those that move much: pushes, pulls, compilers, many layers and many files.
func workCases() []benchCase {
	return []benchCase{
		{name: "W8 build and push 1 GB", setup: buildPushCase, runs: 3, long: true},
		{name: "W8 push of 1 GB, gzip", setup: func(b *bench) ([]contestant, error) { return pushCase(b, "gzip") }, runs: 3},
		{name: "W8 push of 1 GB, zstd", setup: func(b *bench) ([]contestant, error) { return pushCase(b, "zstd") }, runs: 3},
		{name: "W8 push of the Go tree", setup: pushGoCase, runs: 3},
		{name: "W8 one file and push again", setup: pushAgainCase, runs: 10},
		{name: "W9 pull 1 GB and run, gzip", setup: func(b *bench) ([]contestant, error) { return pullCase(b, "gzip") }, runs: 3},
		{name: "W9 pull 1 GB and run, zstd", setup: func(b *bench) ([]contestant, error) { return pullCase(b, "zstd") }, runs: 3},
		{name: "W9 run of 1 GB, not pulled, 30 ms away", setup: lazyCase, runs: 7},
		{name: "W11 go build, cold", setup: goColdCase, runs: 2, long: true},
		{name: "W11 go build, one line", setup: goLineCase, runs: 5, long: true},
		{name: "build of 120 layers", setup: func(b *bench) ([]contestant, error) { return layersCase(b, 120, "--no-cache") }, runs: 3},
		{name: "no-op of 120 layers", setup: func(b *bench) ([]contestant, error) { return layersCase(b, 120) }},
		{name: "run of 120 layers", setup: runLayersCase},
		{name: "build of 400 layers", setup: func(b *bench) ([]contestant, error) { return layersCase(b, 400, "--no-cache") }, runs: 3, long: true},
		{name: "one of 200,000 files changed", setup: func(b *bench) ([]contestant, error) { return countCase(b, 200_000) }, runs: 3},
		{name: "system df", setup: dfCase},
	}
}

// filesScript writes 50,000 files and 1 GB into a directory.
func filesScript(dir string) string {
	return "mkdir -p " + dir + " && cd " + dir + " && i=0; while [ $i -lt 50000 ]; do [ $((i%500)) = 0 ] && mkdir d$((i/500)); echo $i > d$((i/500))/$i; i=$((i+1)); done; " +
		"dd if=/dev/urandom of=noise bs=1M count=512 2>/dev/null; dd if=/dev/zero of=zero bs=1M count=512 2>/dev/null"
}

func filesRunCase(b *bench) ([]contestant, error) {
	dir, err := b.context("files", "FROM bench/base\nRUN "+filesScript("/data")+"\n", nil)
	floor := filepath.Join(b.dir, "files-floor")
	return append(b.builds(dir, nil, "--no-cache"), contestant{
		name: "the script alone", before: func() error { return os.RemoveAll(floor) },
		args: []string{"busybox", "sh", "-c", filesScript(floor)}, floor: true,
	}), err
}

// aptCase needs a Debian image and a mirror.
func aptCase(b *bench) ([]contestant, error) {
	const base = "docker.io/library/debian:12"
	if out, err := exec.Command("timeout", "60", b.forge, "pull", "-q", base).CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(string(out), "\n")
		return nil, fmt.Errorf("%w: no %s: %s", errLeftOut, base, line)
	}
	dir, err := b.context("apt", "FROM "+base+"\nRUN apt-get update && apt-get install -y --no-install-recommends git curl python3\n", nil)
	return b.builds(dir, nil, "--no-cache"), err
}

// gigabyte is a context of an image of 1 GB, half of which is noise.
func (b *bench) gigabyte(name string) (string, error) {
	return b.context(name, "FROM bench/base\nRUN dd if=/dev/urandom of=/noise bs=1M count=480 2>/dev/null\n"+
		"RUN yes 'one line of many that are all the same' | head -c 500000000 > /lines\n", nil)
}

// sent is a floor: it sends a blob of noise as large as all blobs of a repository to the registry, in one request.
func (b *bench) sent(registry, repository string) contestant {
	return contestant{name: "the server alone", floor: true, do: func() error {
		size, err := b.repositorySize(registry, repository)
		if err != nil {
			return err
		}
		resp, err := http.Post("http://"+registry+"/v2/floor/blobs/uploads/", "", nil)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		at := resp.Header.Get("Location")
		if strings.HasPrefix(at, "/") {
			at = "http://" + registry + at
		}
		req, err := http.NewRequest(http.MethodPatch, at, io.LimitReader(noise{}, size))
		if err != nil {
			return err
		}
		req.ContentLength = size
		if resp, err = http.DefaultClient.Do(req); err != nil {
			return err
		}
		return resp.Body.Close()
	}}
}

// noise is without end, and does not take long to make.
type noise struct{}

func (noise) Read(p []byte) (int, error) { return len(p), nil }

// blobs are those of an image in the registry.
func blobs(registry, name string) (digests []string, size int64, err error) {
	repository, tag, _ := strings.Cut(name, ":")
	var m struct {
		Layers []struct {
			Digest string
			Size   int64
		}
	}
	err = getJSON("http://"+registry+"/v2/"+repository+"/manifests/"+tag, &m)
	for _, l := range m.Layers {
		digests, size = append(digests, "http://"+registry+"/v2/"+repository+"/blobs/"+l.Digest), size+l.Size
	}
	return digests, size, err
}

func (b *bench) repositorySize(registry, name string) (int64, error) {
	_, size, err := blobs(registry, name)
	return size, err
}

func buildPushCase(b *bench) ([]contestant, error) {
	registry, err := b.registry()
	if err != nil {
		return nil, err
	}
	dir, err := b.gigabyte("gigabyte-push")
	return []contestant{
		{name: "forge build --push", args: []string{b.forge, "build", "-q", "--no-cache", "--cache", "none", "--push", "-t", registry + "/w8:built", dir}},
		{name: "forge build", args: []string{b.forge, "build", "-q", "--no-cache", "-t", "w8", dir}, floor: true},
	}, err
}

// pushed is a build of a context, and how it is pushed anew each time, under a name of its own.
func (b *bench) pushed(dir, name, compression string) (contestant, string, error) {
	registry, err := b.registry()
	if err != nil {
		return contestant{}, "", err
	}
	if err := b.quietly("build", "-q", "-t", registry+"/"+name+":1", dir); err != nil {
		return contestant{}, "", err
	}
	fresh := func() error {
		return os.RemoveAll(filepath.Join(os.Getenv("FORGE_ROOT"), "compressed")) // what is remembered of forms
	}
	push := contestant{name: "forge push", before: fresh, args: []string{b.forge, "push", "-q", "--compression", compression, registry + "/" + name + ":1"}}
	return push, registry, nil
}

func pushCase(b *bench, compression string) ([]contestant, error) {
	dir, err := b.gigabyte("gigabyte")
	if err != nil {
		return nil, err
	}
	push, registry, err := b.pushed(dir, "w8-"+compression, compression)
	return []contestant{push, b.sent(registry, "w8-"+compression+":1")}, err
}

// pushGoCase is about the bytes, too, which it prints.
func pushGoCase(b *bench) ([]contestant, error) {
	dir, err := b.goTree()
	if err != nil {
		return nil, err
	}
	var list []contestant
	for _, compression := range []string{"gzip", "zstd"} {
		push, registry, err := b.pushed(dir, "go-"+compression, compression)
		if err != nil {
			return nil, err
		}
		if err := b.quietly(push.args[1:]...); err != nil {
			return nil, err
		}
		size, err := b.repositorySize(registry, "go-"+compression+":1")
		if err != nil {
			return nil, err
		}
		push.name = fmt.Sprintf("forge push, %s, %.1f MB", compression, float64(size)/1e6)
		list = append(list, push)
	}
	tree := filepath.Join(dir, "go")
	return append(list, contestant{name: "tar and gzip -6", args: []string{"sh", "-c", "tar -C " + tree + " -c . | gzip -6 | wc -c"}, floor: true}), nil
}

// goTree is a context with the Go tree of this machine.
func (b *bench) goTree() (string, error) {
	dir, err := b.context("gotree", "FROM bench/base\nCOPY go /usr/local/go\n", nil)
	tree := filepath.Join(dir, "go")
	if _, statErr := os.Stat(tree); statErr == nil || err != nil {
		return dir, err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err == nil {
		_, err = exec.Command("cp", "-a", string(bytes.TrimSpace(root)), tree).Output()
	}
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	if err != nil {
		return dir, fmt.Errorf("%w: no Go tree: %w", errLeftOut, err)
	}
	return dir, nil
}

func pushAgainCase(b *bench) ([]contestant, error) {
	registry, err := b.registry()
	if err != nil {
		return nil, err
	}
	dir, err := b.context("again", "FROM bench/base\nCOPY f /f\n", map[string]string{"f": "0"})
	n := 0
	change := func() error {
		n++
		return os.WriteFile(filepath.Join(dir, "f"), []byte(strconv.Itoa(n)), 0o644)
	}
	return []contestant{
		{name: "forge build --push", before: change, args: []string{b.forge, "build", "-q", "--cache", "none", "--push", "-t", registry + "/again", dir}},
		{name: "forge version", args: []string{b.forge, "version"}, floor: true},
	}, err
}

// pullCase is the first run of an image on a machine that has nothing.
func pullCase(b *bench, compression string) ([]contestant, error) {
	dir, err := b.gigabyte("gigabyte")
	if err != nil {
		return nil, err
	}
	name := "w8-" + compression + ":1"
	push, registry, err := b.pushed(dir, "w8-"+compression, compression)
	if err != nil {
		return nil, err
	}
	if err := b.quietly(push.args[1:]...); err != nil {
		return nil, err
	}
	urls, _, err := blobs(registry, name)
	store := filepath.Join(b.dir, "pulled")
	fresh := func() error { return os.RemoveAll(store) }
	unpack := map[string]string{"gzip": "gzip -dc", "zstd": "zstd -dc"}[compression]
	if _, err := exec.LookPath(strings.Fields(unpack)[0]); err != nil {
		unpack = "cat"
	}
	var script strings.Builder
	fmt.Fprintf(&script, "mkdir -p %s; ", store)
	for i, url := range urls {
		fmt.Fprintf(&script, "curl -s %s | tee %s/%d.z | %s | tee %s/%d | sha256sum; ", url, store, i, unpack, store, i)
	}
	list := []contestant{
		{name: "forge run", before: fresh, args: []string{b.forge, "--store", store, "run", "--rm", "--network", "none", registry + "/" + name, "true"}},
		{name: "curl, " + unpack + ", sha256sum", before: fresh, args: []string{"sh", "-c", script.String()}, floor: true},
	}
	if podman, lookErr := exec.LookPath("podman"); lookErr == nil {
		root := []string{podman, "--root", filepath.Join(b.dir, "podman"), "--runroot", filepath.Join(b.dir, "podman-run")}
		gone := func() error {
			_ = exec.Command(root[0], append(root[1:len(root):len(root)], "rmi", "-af")...).Run() // there may be none
			return nil
		}
		list = append(list, contestant{name: "podman", before: gone, peer: true, args: append(root, "run", "--rm", "--network", "none", "--pull=always", "--tls-verify=false", registry+"/"+name, "true")})
	}
	return list, err
}

// lazyCase runs a command of an image of 1 GB whose layers stay in a registry, beside running it when it is here.
func lazyCase(b *bench) ([]contestant, error) {
	dir, err := b.gigabyte("gigabyte")
	if err != nil {
		return nil, err
	}
	push, registry, err := b.pushed(dir, "lazy", "estargz")
	if err != nil {
		return nil, err
	}
	if err := b.quietly(push.args[1:]...); err != nil {
		return nil, err
	}
	far, err := mountLine().to(registry)
	if err != nil {
		return nil, err
	}
	here := registry + "/lazy:1"
	if err := b.quietly("pull", "-q", here); err != nil {
		return nil, err
	}
	store := filepath.Join(b.dir, "lazy")
	run := []string{"run", "--rm", "--network", "none"}
	return []contestant{
		{
			name: "forge run --pull lazy", before: func() error { return os.RemoveAll(store) },
			args: append(append([]string{b.forge, "--store", store}, run...), "--pull", "lazy", far+"/lazy:1", "true"),
		},
		{name: "forge run, pulled", args: append(append([]string{b.forge}, run...), here, "true"), floor: true},
	}, nil
}

// layersCase is a build of many steps that each write a file.
func layersCase(b *bench, layers int, flags ...string) ([]contestant, error) {
	var file strings.Builder
	file.WriteString("FROM bench/base\n")
	for i := range layers {
		fmt.Fprintf(&file, "RUN echo %d > /f%d\n", i, i)
	}
	dir, err := b.context(fmt.Sprintf("layers%d", layers), file.String(), nil)
	return append(b.builds(dir, nil, flags...), contestant{name: "forge version", args: []string{b.forge, "version"}, floor: true}), err
}

func runLayersCase(b *bench) ([]contestant, error) {
	list, err := layersCase(b, 120)
	if err != nil {
		return nil, err
	}
	return []contestant{
		{name: "forge run", args: []string{b.forge, "run", "--rm", "--network", "host", "bench/layers120", "true"}},
		{name: "forge run, 1 layer", args: []string{b.forge, "run", "--rm", "--network", "host", "bench/base", "true"}, floor: true},
	}, b.quietly(list[0].args[1:]...)
}

// count is a context of so many files of a kilobyte.
func (b *bench) count(files int) (string, error) {
	return b.sources(fmt.Sprintf("count%d", files), files, 1024, "FROM bench/base\nCOPY src /src\n")
}

// countCase changes one of many small files.
func countCase(b *bench, files int) ([]contestant, error) {
	dir, err := b.count(files)
	n := 0
	change := func() error {
		n++
		return os.WriteFile(filepath.Join(dir, "src", "7", "3501"), []byte(fmt.Sprintf("changed %d", n)), 0o644)
	}
	return append(b.builds(dir, change)[:1], contestant{
		name: "tar, sha256sum", args: []string{"sh", "-c", "tar -C " + dir + " -c src | tee " + filepath.Join(b.dir, "floor.tar") + " | sha256sum"}, floor: true,
	}), err
}

func dfCase(b *bench) ([]contestant, error) {
	return []contestant{
		{name: "forge", args: []string{b.forge, "system", "df"}},
		{name: "forge version", args: []string{b.forge, "version"}, floor: true},
	}, nil
}
