package main

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"time"
)

// dockerCases are those of docker's command line, beside what it takes for itself. They are left out where it is not installed.
func dockerCases() []benchCase {
	return []benchCase{
		{name: "docker run --rm IMAGE true", setup: dockerRunCase, runs: 15},
		{name: "docker ps of 100 containers", setup: dockerPsCase, runs: 15},
		{name: "docker build, nothing to do", setup: dockerBuildCase, runs: 10},
	}
}

// docker is a command of docker's, to a server of this store's API.
func (b *bench) docker(args ...string) ([]string, error) {
	client, err := exec.LookPath("docker")
	if err != nil {
		return nil, fmt.Errorf("%w: docker's command line is not installed", errLeftOut)
	}
	if err := b.serveAPI(); err != nil {
		return nil, err
	}
	return append([]string{client, "-H", "unix://" + b.socket()}, args...), nil
}

func (b *bench) socket() string { return filepath.Join(b.dir, "docker.sock") }

// serveAPI serves the API until the bench ends, from when it is called first.
func (b *bench) serveAPI() error {
	if b.serving {
		return nil
	}
	server := exec.Command(b.forge, "api", "--socket", b.socket(), "--idle", "1h")
	if err := server.Start(); err != nil {
		return err
	}
	b.serving = true
	b.end = append(b.end, func() error {
		_ = server.Process.Kill()
		_ = server.Wait()
		return nil
	})
	var err error
	for range 1000 {
		var c net.Conn
		if c, err = net.Dial("unix", b.socket()); err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("forge api: %w", err)
}

// besideDocker are a command of docker's, one of forge's that does the same, and a floor, which is a command of docker's, too.
func (b *bench) besideDocker(command, own, floor []string) ([]contestant, error) {
	args, err := b.docker(command...)
	if err != nil {
		return nil, err
	}
	least, err := b.docker(floor...)
	return []contestant{
		{name: "docker", args: args},
		{name: "forge", args: append([]string{b.forge}, own...)},
		{name: "docker " + floor[0], args: least, floor: true},
	}, err
}

func dockerRunCase(b *bench) ([]contestant, error) {
	run := []string{"run", "--rm", "bench/base", "true"}
	return b.besideDocker(run, run, []string{"version", "--format", "x"})
}

func dockerPsCase(b *bench) ([]contestant, error) {
	list, err := b.besideDocker([]string{"ps", "-a"}, []string{"ps", "-a"}, []string{"version", "--format", "x"})
	if err != nil {
		return nil, err
	}
	if err := b.endContainers(); err != nil {
		return nil, err
	}
	for i := range 100 {
		if err := b.quietly(b.detached(fmt.Sprintf("some%d", i))...); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func dockerBuildCase(b *bench) ([]contestant, error) {
	dir, err := b.context("nothing", "FROM bench/base\nCOPY a /\nRUN true\n", map[string]string{"a": "a\n"})
	if err != nil {
		return nil, err
	}
	list, err := b.besideDocker([]string{"build", "-q", "-t", "bench/nothing", dir}, []string{"build", "-q", "-t", "bench/nothing", dir}, []string{"buildx", "version"})
	if err == nil && exec.Command(list[2].args[0], list[2].args[1:]...).Run() != nil {
		err = fmt.Errorf("%w: docker has no buildx", errLeftOut)
	}
	return list, err
}
