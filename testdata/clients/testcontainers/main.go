// Command testcontainers does with an image what the tests of many projects do: it starts a container in a network of its own,
// waits for its port, runs a command in it, reads its log, copies files in and out, and builds an image of its own.
//
// usage: testcontainers IMAGE [leave]   (an image of busybox; with leave, it removes nothing)
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	do := run
	if len(os.Args) > 2 {
		do = leave
	}
	if err := do(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "testcontainers:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func run(image string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	net1, err := network.New(ctx)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer func() { err = first(err, net1.Remove(ctx)) }()
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		Started: true,
		ContainerRequest: testcontainers.ContainerRequest{
			Image:          image,
			Cmd:            []string{"sh", "-c", "echo begun; mkdir -p /www; cp /in.txt /www/; exec busybox nc -ll -p 80 -e cat /www/in.txt"},
			ExposedPorts:   []string{"80/tcp"},
			Networks:       []string{net1.Name},
			NetworkAliases: map[string][]string{net1.Name: {"web"}},
			Files: []testcontainers.ContainerFile{{
				Reader: strings.NewReader("copied in\n"), ContainerFilePath: "/in.txt", FileMode: 0o644,
			}},
			WaitingFor: wait.ForAll(wait.ForLog("begun"), wait.ForListeningPort("80/tcp")),
		},
	})
	if c != nil {
		defer func() { err = first(err, testcontainers.TerminateContainer(c)) }()
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := dial(ctx, c); err != nil {
		return err
	}
	if err := inside(ctx, c); err != nil {
		return err
	}
	return build(ctx, image)
}

// leave leaves a container and a network.
func leave(image string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	n, err := network.New(ctx)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	_, err = testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		Started:          true,
		ContainerRequest: testcontainers.ContainerRequest{Image: image, Cmd: []string{"sleep", "1000"}, Networks: []string{n.Name}},
	})
	return err
}

// dial reads from the published port.
func dial(ctx context.Context, c testcontainers.Container) error {
	at, err := c.Endpoint(ctx, "")
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	conn, err := net.DialTimeout("tcp", at, 10*time.Second)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 10)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "copied in\n" {
		return fmt.Errorf("the port said %q: %v", buf, err)
	}
	fmt.Println("port: copied in")
	return nil
}

// inside runs a command in the container, reads its log and copies a file out.
func inside(ctx context.Context, c testcontainers.Container) error {
	code, out, err := c.Exec(ctx, []string{"sh", "-c", "cat /in.txt; exit 3"})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	text, err := io.ReadAll(out)
	if err != nil || code != 3 || !bytes.Contains(text, []byte("copied in")) {
		return fmt.Errorf("exec: code %d, %q, %v", code, text, err)
	}
	fmt.Println("exec: 3")
	logs, err := c.Logs(ctx)
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	if text, err = io.ReadAll(logs); err != nil || !bytes.Contains(text, []byte("begun")) {
		return fmt.Errorf("logs: %q, %v", text, err)
	}
	fmt.Println("logs: begun")
	file, err := c.CopyFileFromContainer(ctx, "/www/in.txt")
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer file.Close()
	if text, err = io.ReadAll(file); err != nil || string(text) != "copied in\n" {
		return fmt.Errorf("copy: %q, %v", text, err)
	}
	fmt.Println("copy: copied in")
	return nil
}

// build builds an image from a build file of the current syntax and runs it.
func build(ctx context.Context, image string) (err error) {
	dir, err := os.MkdirTemp("", "testcontainers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := "FROM " + image + "\nRUN --mount=type=cache,target=/c echo built >/built\nCMD [\"sh\", \"-c\", \"cat /built; sleep 100\"]\n"
	if err := os.WriteFile(dir+"/Dockerfile", []byte(file), 0o600); err != nil {
		return err
	}
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		Started: true,
		ContainerRequest: testcontainers.ContainerRequest{
			FromDockerfile: testcontainers.FromDockerfile{Context: dir}, WaitingFor: wait.ForLog("built"),
		},
	})
	if c != nil {
		defer func() { err = first(err, testcontainers.TerminateContainer(c)) }()
	}
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	fmt.Println("build: built")
	return nil
}

func first(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
