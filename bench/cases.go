package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	manyFiles = 50_000
	fileSize  = 10 << 10
)

// cases are the rows of docs/performance.md and the targets, and what else docs/decisions speak of.
func cases() []benchCase {
	return []benchCase{
		{name: "W1 start of the program", setup: versionCase, runs: 20},
		{name: "W1 no-op rebuild, 12 steps", setup: noopCase, runs: 20},
		{name: "W2 no-op rebuild, 50,000 files", setup: manyNoopCase},
		{name: "W3 one of 50,000 files changed", setup: manyChangedCase, runs: 3},
		{name: "W4 RUN true, a step of 50", setup: runTrueCase, runs: 3, divideBy: 50},
		{name: "W4 RUN that writes, a step of 30", setup: runWriteCase, runs: 3, divideBy: 30},
		{name: "W5 RUN of 50,000 files and 1 GB", setup: filesRunCase, runs: 3, long: true},
		{name: "W5 RUN writes 1 GiB", setup: bigRunCase, runs: 3},
		{name: "W6 apt-get of 3 packages", setup: aptCase, runs: 2, long: true},
		{name: "W7 8 stages of sleep 1", setup: func(b *bench) ([]contestant, error) { return stagesCase(b, 8) }, runs: 3},
		{name: "W7 100 stages of sleep 1", setup: func(b *bench) ([]contestant, error) { return stagesCase(b, 100) }, runs: 3},
		{name: "no-op of 10 targets, shared base", setup: targetsNoopCase},
		{name: "10 targets cold, RUN shared", setup: targetsColdCase, runs: 3},
		{name: "12 steps of another machine, 30 ms", setup: farCase},
		{name: "800 MB in a cache mount, 1 file added", setup: mountSaveCase, runs: 3},
		{name: "800 MB in a cache mount, fetched", setup: mountRestoreCase, runs: 3},
		{name: "800 MB in a cache mount, loopback", setup: mountNearCase, runs: 3, long: true},
		{name: "RUN true at a cluster, a step", setup: clusterStepCase, runs: 5, divideBy: clusterSteps},
		{name: "50 answers of a cluster, no base", setup: clusterAnswersCase},
		{name: "16 stages at 4 executors", setup: clusterStagesCase, runs: 1},
		{name: "ADD of 1,000,000 entries", setup: entriesCase, runs: 1},
	}
}

// base imports a busybox image into forge's store, and into the peer's if there is one.
func (b *bench) base() error {
	if out, err := exec.Command(filepath.Join("scripts", "base.sh"), b.forge, "bench/base").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if b.peer == "" {
		return nil
	}
	archive := filepath.Join(b.dir, "base.tar")
	if out, err := exec.Command(b.forge, "save", "-o", archive, "bench/base").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if out, err := exec.Command(b.peer, "pull", "-q", "oci-archive:"+archive).CombinedOutput(); err != nil {
		fmt.Printf("buildah is left out: %v: %s\n", err, out)
		b.peer = ""
		return nil
	}
	if out, err := exec.Command(b.peer, "tag", lastLine(archive, b.peer), "localhost/bench/base").CombinedOutput(); err != nil {
		fmt.Printf("buildah is left out: %v: %s\n", err, out)
		b.peer = ""
	}
	return nil
}

// lastLine is the ID of the image that the peer has pulled last.
func lastLine(_, peer string) string {
	out, err := exec.Command(peer, "images", "-q").Output()
	if err != nil {
		return ""
	}
	id, _, _ := strings.Cut(string(out), "\n")
	return id
}

// context writes a build context and returns its directory.
func (b *bench) context(name, dockerfile string, files map[string]string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if files == nil {
		files = map[string]string{}
	}
	files["Dockerfile"] = dockerfile
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// builds are forge and its peers building the same context.
func (b *bench) builds(dir string, before func() error, flags ...string) []contestant {
	list := []contestant{{
		name: "forge", before: before,
		args: append(append([]string{b.forge, "build", "--progress=plain", "-t", "bench/" + filepath.Base(dir)}, flags...), dir),
	}}
	if b.peer != "" {
		peerFlags := []string{b.peer, "build", "--layers", "--isolation=chroot", "-t", "bench/" + filepath.Base(dir)}
		list = append(list, contestant{name: "buildah", before: before, peer: true, args: append(append(peerFlags, flags...), dir)})
	}
	return append(list, b.kitBuilds(dir, before, flags...)...)
}

func versionCase(b *bench) ([]contestant, error) {
	return []contestant{
		{name: "forge version", args: []string{b.forge, "version"}},
		{name: "/bin/true", args: []string{"/bin/true"}, floor: true},
	}, nil
}

func noopCase(b *bench) ([]contestant, error) {
	var file strings.Builder
	file.WriteString("FROM bench/base\nWORKDIR /w\nCOPY a a\n")
	for i := range 9 {
		fmt.Fprintf(&file, "RUN echo %d > f%d\n", i, i)
	}
	dir, err := b.context("noop", file.String(), map[string]string{"a": "a\n"})
	return append(b.builds(dir, nil), contestant{name: "forge version", args: []string{b.forge, "version"}, floor: true}), err
}

// many is a context of 50,000 files, 500 MB.
func (b *bench) many() (string, error) {
	return b.sources("many", manyFiles, fileSize, "FROM bench/base\nCOPY src /src\nRUN ls /src > /list\n")
}

// sources is a context of many files, of so many bytes and a number of their own, 500 in a directory. It is written once.
func (b *bench) sources(name string, files, size int, dockerfile string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	content := strings.Repeat("0123456789abcdef", size/16)
	for i := range files {
		sub := filepath.Join(dir, "src", strconv.Itoa(i/500))
		if i%500 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), []byte(strconv.Itoa(i)+content), 0o644); err != nil {
			return "", err
		}
	}
	return b.context(name, dockerfile, nil)
}

func manyNoopCase(b *bench) ([]contestant, error) {
	dir, err := b.many()
	list := b.builds(dir, nil)[:1] // the peer takes minutes
	return append(list, contestant{name: "find -size", args: []string{"find", dir, "-size", "+1G"}, floor: true}), err
}

func manyChangedCase(b *bench) ([]contestant, error) {
	dir, err := b.many()
	n := 0
	change := func() error {
		n++
		return os.WriteFile(filepath.Join(dir, "src", "7", "3501"), []byte(fmt.Sprintf("changed %d", n)), 0o644)
	}
	floor := filepath.Join(b.dir, "floor.tar")
	return append(b.builds(dir, change)[:1], contestant{
		name: "tar, sha256sum", args: []string{"sh", "-c", "tar -C " + dir + " -c src | tee " + floor + " | sha256sum"}, floor: true,
	}), err
}

func runTrueCase(b *bench) ([]contestant, error) {
	var file strings.Builder
	file.WriteString("FROM bench/base\n")
	for i := range 50 {
		fmt.Fprintf(&file, "RUN [\"true\", \"%d\"]\n", i)
	}
	dir, err := b.context("true", file.String(), nil)
	floor := contestant{name: "unshare", args: []string{"sh", "-c", "for i in $(seq 50); do unshare -mpfuin true; done"}, floor: true}
	return append(b.builds(dir, nil, "--no-cache"), floor), err
}

func runWriteCase(b *bench) ([]contestant, error) {
	var file strings.Builder
	file.WriteString("FROM bench/base\n")
	for i := range 30 {
		fmt.Fprintf(&file, "RUN echo %d > /f%d\n", i, i)
	}
	dir, err := b.context("write", file.String(), nil)
	floor := contestant{name: "unshare", args: []string{"sh", "-c", "for i in $(seq 30); do unshare -mpfuin sh -c 'echo > " + dir + "/f'; done"}, floor: true}
	return append(b.builds(dir, nil, "--no-cache"), floor), err
}

func runCase(b *bench) ([]contestant, error) {
	list := []contestant{
		{name: "forge", args: []string{b.forge, "run", "--rm", "bench/base", "true"}},
		{name: "forge, --network host", args: []string{b.forge, "run", "--rm", "--network", "host", "bench/base", "true"}},
	}
	if path, err := exec.LookPath("unshare"); err == nil {
		list = append(list, contestant{name: "unshare", args: []string{path, "-mpfuin", "true"}, floor: true})
	}
	return list, nil
}

func stagesCase(b *bench, stages int) ([]contestant, error) {
	dir, err := b.sleepers(stages)
	return append(b.builds(dir, nil, "--no-cache"), contestant{name: "sleep 1", args: []string{"sleep", "1"}, floor: true}), err
}

// sleepers is a context of stages that sleep, and an image of a file of each.
func (b *bench) sleepers(stages int) (string, error) {
	var file, copies strings.Builder
	for i := range stages {
		fmt.Fprintf(&file, "FROM bench/base AS s%d\nRUN sleep 1 && echo %d > /f%d\n", i, i, i)
		fmt.Fprintf(&copies, "COPY --from=s%d /f%d /\n", i, i)
	}
	return b.context(fmt.Sprintf("stages%d", stages), file.String()+"FROM bench/base\n"+copies.String(), nil)
}

func bigRunCase(b *bench) ([]contestant, error) {
	dir, err := b.context("big", "FROM bench/base\nRUN dd if=/dev/zero of=/big bs=1M count=1024 2>/dev/null\n", nil)
	floor := filepath.Join(b.dir, "floor.bin")
	return append(b.builds(dir, nil, "--no-cache"), contestant{
		name: "dd, then sha256sum",
		args: []string{"sh", "-c", "dd if=/dev/zero of=" + floor + " bs=1M count=1024 2>/dev/null && sha256sum " + floor}, floor: true,
	}), err
}

// entriesCase is about memory: the archive holds nothing but names.
func entriesCase(b *bench) (_ []contestant, err error) {
	dir, err := b.context("entries", "FROM scratch\nADD x.tar /\n", nil)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, "x.tar"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriter(f)
	archive := tar.NewWriter(out)
	for i := range 1_000_000 {
		name := fmt.Sprintf("some/directory-%d/file-name-%d.txt", i/1000, i)
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644}); err != nil {
			return nil, err
		}
	}
	return b.builds(dir, nil, "--no-cache")[:1], errors.Join(archive.Close(), out.Flush())
}
