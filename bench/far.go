package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// farRTT is how far away the registry of farCase is.
const farRTT = 30 * time.Millisecond

// farCase is a build of 12 steps on a machine that has never built anything, all of which another has done: with what that left beside the
// image in a registry 30 ms away, and the same without the cache, the registry's answer to all that has to be sent; and by BuildKit.
func farCase(b *bench) ([]contestant, error) {
	registry, err := b.registry()
	if err != nil {
		return nil, err
	}
	far, err := (&line{rtt: farRTT}).to(registry)
	if err != nil {
		return nil, err
	}
	base := registry + "/base:1"
	if err := b.quietly("tag", "bench/base", base); err != nil {
		return nil, err
	}
	if err := b.quietly("push", "-q", base); err != nil {
		return nil, err
	}
	var text strings.Builder
	files := map[string]string{}
	fmt.Fprintf(&text, "ARG BASE\nFROM $BASE AS build\n")
	for i := range 9 {
		if i == 6 {
			text.WriteString("FROM $BASE\n")
		}
		name := fmt.Sprintf("f%d", i)
		files[name] = strings.Repeat(name, 100_000)
		fmt.Fprintf(&text, "COPY %s /%s\n", name, name)
	}
	text.WriteString("COPY --from=build /f1 /x1\nCOPY --from=build /f2 /x2\nCOPY --from=build /f3 /x3\n")
	dir, err := b.context("far", text.String(), files)
	if err != nil {
		return nil, err
	}
	store := filepath.Join(b.dir, "fresh")
	build := func(tag string, flags ...string) []string {
		args := []string{b.forge, "--store", store, "build", "-q", "--push", "--build-arg", "BASE=" + far + "/base:1", "-t", far + "/app:" + tag}
		return append(append(args, flags...), dir)
	}
	if out, err := exec.Command(b.forge, build("0")[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	fresh := func() error { return os.RemoveAll(store) }
	peer, err := b.farBuildkit(dir, far)
	return append([]contestant{
		{name: "forge, from the cache", before: fresh, args: build("1")},
		{name: "forge --cache none", before: fresh, args: build("2", "--cache", "none")},
	}, peer...), err
}

// registry serves forge's own, once, until the benchmarks end, and returns its address.
func (b *bench) registry() (string, error) {
	if b.served != "" {
		return b.served, nil
	}
	cmd := exec.Command(b.forge, "registry", "serve", "--addr", "127.0.0.1:0", "--root", filepath.Join(b.dir, "registry"), "-q")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.end = append(b.end, func() error { return cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, _, _ := strings.Cut(strings.TrimPrefix(line, "listening on "), ",")
	b.served = strings.TrimSpace(addr)
	return b.served, err
}
