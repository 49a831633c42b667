package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// bigFile is what a container serves, in MiB.
const bigFile = 200

// server starts a container that serves a big file and a small one, and returns the addresses at which it is reached: by its
// published port, and by its own address in the network of the bridge.
func (b *bench) server() (published, direct string, err error) {
	script := fmt.Sprintf("mkdir /dev/shm/w && cd /dev/shm/w && echo small >small && dd if=/dev/zero of=big bs=1M count=%d 2>/dev/null && exec httpd -f -h .", bigFile)
	err = errors.Join(b.removed("bench"), b.quietly("run", "-d", "--name", "bench", "--shm-size", "300m", "-p", "127.0.0.1::80", "bench/base", "sh", "-c", script))
	if err != nil {
		return "", "", err
	}
	port, err := exec.Command(b.forge, "port", "bench", "80").Output()
	if err != nil {
		return "", "", err
	}
	address, err := exec.Command(b.forge, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "bench").Output()
	if err != nil {
		return "", "", err
	}
	published, direct = strings.TrimSpace(string(port)), strings.TrimSpace(string(address))+":80"
	for range 1000 {
		if err = download(direct, "small"); err == nil {
			return published, direct, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", "", err
}

// download reads a file from a server.
func download(at, name string) error {
	c, err := net.Dial("tcp", at)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /"+name+" HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if want := map[string]int64{"small": 1, "big": bigFile << 20}[name]; err == nil && n < want {
		err = fmt.Errorf("%s: %d bytes of %s, want %d", at, n, name, want)
	}
	return err
}

func portCase(b *bench) ([]contestant, error) {
	published, direct, err := b.server()
	return []contestant{
		{name: "published port", do: func() error { return download(published, "big") }},
		{name: "its own address", do: func() error { return download(direct, "big") }, floor: true},
	}, err
}

// connectionsCase opens many connections, four at a time, for a request each: the server takes one after the other, and forks.
// One that fails is an error.
func connectionsCase(b *bench) ([]contestant, error) {
	published, direct, err := b.server()
	many := func(at string) func() error {
		return func() error {
			var work sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				work.Go(func() {
					for range 1000 / len(errs) {
						errs[i] = errors.Join(errs[i], download(at, "small"))
					}
				})
			}
			work.Wait()
			return errors.Join(errs...)
		}
	}
	return []contestant{
		{name: "published port", do: many(published)},
		{name: "its own address", do: many(direct), floor: true},
	}, err
}
