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

// cases are what docs/decisions and the targets speak of.
func cases() []benchCase {
	return []benchCase{
		{name: "start of the program", setup: versionCase},
		{name: "no-op rebuild, 12 steps", setup: noopCase},
		{name: "no-op rebuild, 50,000 files", setup: manyNoopCase},
		{name: "no-op of 10 targets, shared base", setup: targetsNoopCase},
		{name: "10 targets cold, RUN shared", setup: targetsColdCase, runs: 3},
		{name: "one of 50,000 files changed", setup: manyChangedCase, runs: 3},
		{name: "12 steps of another machine, 30 ms", setup: farCase},
		{name: "800 MB in a cache mount, 1 file added", setup: mountSaveCase, runs: 3},
		{name: "800 MB in a cache mount, fetched", setup: mountRestoreCase, runs: 3},
		{name: "RUN true at a cluster, a step", setup: clusterStepCase, runs: 5, divideBy: clusterSteps},
		{name: "16 stages at 4 executors", setup: clusterStagesCase, runs: 1},
		{name: "RUN true, a step", setup: runTrueCase, runs: 3, divideBy: 50},
		{name: "run --rm IMAGE true", setup: runCase, runs: 15},
		{name: "8 stages of sleep 1", setup: stagesCase, runs: 3},
		{name: "RUN writes 1 GiB", setup: bigRunCase, runs: 3},
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

// builds are forge and the peer building the same context.
func (b *bench) builds(dir string, before func() error, flags ...string) []contestant {
	list := []contestant{{
		name: "forge", before: before,
		args: append(append([]string{b.forge, "build", "--progress=plain", "-t", "bench/" + filepath.Base(dir)}, flags...), dir),
	}}
	if b.peer != "" {
		peerFlags := []string{b.peer, "build", "--layers", "--isolation=chroot", "-t", "bench/" + filepath.Base(dir)}
		list = append(list, contestant{name: "buildah", before: before, args: append(append(peerFlags, flags...), dir)})
	}
	return list
}

func versionCase(b *bench) ([]contestant, error) {
	return []contestant{
		{name: "forge version", args: []string{b.forge, "version"}},
		{name: "/bin/true (floor)", args: []string{"/bin/true"}},
	}, nil
}

func noopCase(b *bench) ([]contestant, error) {
	var file strings.Builder
	file.WriteString("FROM bench/base\nWORKDIR /w\nCOPY a a\n")
	for i := range 9 {
		fmt.Fprintf(&file, "RUN echo %d > f%d\n", i, i)
	}
	dir, err := b.context("noop", file.String(), map[string]string{"a": "a\n"})
	return b.builds(dir, nil), err
}

// many is a context of 50,000 files, 500 MB.
func (b *bench) many() (string, error) {
	dir := filepath.Join(b.dir, "many")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	content := strings.Repeat("0123456789abcdef", fileSize/16)
	for i := range manyFiles {
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
	_, err := b.context("many", "FROM bench/base\nCOPY src /src\nRUN ls /src > /list\n", nil)
	return dir, err
}

func manyNoopCase(b *bench) ([]contestant, error) {
	dir, err := b.many()
	list := b.builds(dir, nil)[:1] // the peer takes minutes
	return append(list, contestant{name: "find -size (floor)", args: []string{"find", dir, "-size", "+1G"}}), err
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
		name: "tar of it (peer)", args: []string{"tar", "-C", dir, "-cf", floor, "src"},
	}), err
}

func runTrueCase(b *bench) ([]contestant, error) {
	var file strings.Builder
	file.WriteString("FROM bench/base\n")
	for i := range 50 {
		fmt.Fprintf(&file, "RUN [\"true\", \"%d\"]\n", i)
	}
	dir, err := b.context("true", file.String(), nil)
	return b.builds(dir, nil, "--no-cache"), err
}

func runCase(b *bench) ([]contestant, error) {
	list := []contestant{
		{name: "forge", args: []string{b.forge, "run", "--rm", "bench/base", "true"}},
		{name: "forge, --network host", args: []string{b.forge, "run", "--rm", "--network", "host", "bench/base", "true"}},
	}
	if path, err := exec.LookPath("unshare"); err == nil {
		list = append(list, contestant{name: "unshare (floor)", args: []string{path, "-mpfuin", "true"}})
	}
	return list, nil
}

func stagesCase(b *bench) ([]contestant, error) {
	var file, copies strings.Builder
	for i := range 8 {
		fmt.Fprintf(&file, "FROM bench/base AS s%d\nRUN sleep 1 && echo %d > /f%d\n", i, i, i)
		fmt.Fprintf(&copies, "COPY --from=s%d /f%d /\n", i, i)
	}
	dir, err := b.context("stages", file.String()+"FROM bench/base\n"+copies.String(), nil)
	return append(b.builds(dir, nil, "--no-cache")[:1], contestant{name: "sleep 1 (floor)", args: []string{"sleep", "1"}}), err
}

func bigRunCase(b *bench) ([]contestant, error) {
	dir, err := b.context("big", "FROM bench/base\nRUN dd if=/dev/zero of=/big bs=1M count=1024 2>/dev/null\n", nil)
	floor := filepath.Join(b.dir, "floor.bin")
	return append(b.builds(dir, nil, "--no-cache"), contestant{
		name: "dd, then sha256sum (peer)",
		args: []string{"sh", "-c", "dd if=/dev/zero of=" + floor + " bs=1M count=1024 2>/dev/null && sha256sum " + floor},
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
