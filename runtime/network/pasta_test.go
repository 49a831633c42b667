package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// helperPasta calls the server that is its argument from a network made by an ordinary user, or tells what it cannot have.
func helperPasta() {
	if err := runtime.EnterUserNamespace(""); err != nil {
		fmt.Println("unusable:", err)
		os.Exit(2)
	}
	s := Open(os.Args[1], os.Args[1])
	o := byDefault
	if len(os.Args) > 3 && os.Args[3] != "die" {
		helperPorts(s, os.Args[3:])
	}
	n, err := s.Prepare(context.Background(), o)
	if err != nil {
		fmt.Println("unusable:", err)
		os.Exit(2)
	}
	if len(os.Args) > 3 {
		fmt.Println("ready")
		time.Sleep(time.Hour)
	}
	seen, err := call(n.Namespace, netip.MustParseAddrPort(os.Args[2]))
	if err := errors.Join(err, n.Close()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	left, _ := os.ReadDir(os.Args[1])
	fmt.Println(seen, left)
	os.Exit(0)
}

// helperPorts publishes ports, answers at port 80 until its input ends, and tells the errors of what follows.
func helperPorts(s *Store, values []string) {
	prepare := func(o Options, value string) *Sandbox {
		var err error
		if o.Ports, err = ParsePorts(value); err == nil {
			var b *Sandbox
			if b, err = s.Prepare(context.Background(), o); err == nil {
				return b
			}
		}
		fmt.Println(err)
		return nil
	}
	b := prepare(byDefault, values[0])
	if b == nil {
		os.Exit(2)
	}
	err := runtime.InNetworkNamespace(b.Namespace, func() error {
		l, err := net.Listen("tcp", ":80")
		if err == nil {
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					fmt.Fprint(conn, "rootless ")
					conn.Close()
				}
			}()
		}
		return err
	})
	fmt.Println(b.Bindings(), err)
	for _, v := range values[1:] {
		prepare(byDefault, v)
	}
	_, err = s.Create(context.Background(), Config{Name: "n"})
	fmt.Println(err)
	_, err = b.Connect(context.Background(), byDefault.Networks[0])
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
	fmt.Println(b.Close())
	os.Exit(0)
}

func TestPasta(t *testing.T) {
	if !inside(t) {
		return
	}
	if _, err := exec.LookPath("pasta"); err != nil {
		t.Skip("pasta is not installed")
	}
	// Everybody may open it on most machines. Here at least in this mount namespace.
	tun := filepath.Join(t.TempDir(), "tun")
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666),
		unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "")); err != nil {
		t.Skip(err)
	}
	here(t) // with a loopback interface
	server := outside(t)
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	// pasta takes addresses and routes from the interface that has the default route.
	if err := c.do(setDefaultRoute(netip.MustParseAddr("198.51.100.1"))); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "forge-network-test")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	state, path := filepath.Join(dir, "state"), filepath.Join(dir, "helper")
	if err := errors.Join(os.WriteFile(path, self, 0o755), os.Mkdir(state, 0o755), os.Chown(state, 65534, 65534), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(path, append([]string{state, server.String()}, args...)...)
		cmd.Env = append(os.Environ(), "NETWORK_TEST_HELPER=pasta")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	cmd := command()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 2 {
		t.Skipf("%s", out)
	}
	if got, want := string(out), "198.51.100.2 []\n"; err != nil || got != want {
		t.Errorf("%v: %s, want %s", err, got, want)
	}

	t.Run("ports", func(t *testing.T) {
		cmd := command("8080:80", "127.0.0.1:8080:80", "80:80")
		in, err := cmd.StdinPipe()
		var out io.ReadCloser
		if err == nil {
			out, err = cmd.StdoutPipe()
		}
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer in.Close()
		lines := bufio.NewScanner(out)
		for _, want := range []string{
			"[{0.0.0.0 8080 80 tcp} {:: 8080 80 tcp}] <nil>",
			"Bind for 127.0.0.1:8080 failed: port is already allocated",
			"Bind for 0.0.0.0:80 failed: permission denied: the lowest port of an ordinary user is in /proc/sys/net/ipv4/ip_unprivileged_port_start",
			"networks that are created need root (user namespace with one id: /etc/subuid has no range for user 65534): run as root, or use the default network, host or none",
			"networks that are created need root (user namespace with one id: /etc/subuid has no range for user 65534): run as root, or use the default network, host or none",
		} {
			if lines.Scan(); lines.Text() != want {
				t.Errorf("%q, want %q", lines.Text(), want)
			}
		}
		for _, at := range []string{"127.0.0.1:8080", "198.51.100.2:8080", "[::1]:8080"} {
			wantReach(t, "by pasta", nil, "tcp", at, "rootless")
		}
		in.Close()
		if lines.Scan(); lines.Text() != "<nil>" {
			t.Errorf("close: %s", lines.Text())
		}
	})

	// Killed, it takes pasta with it.
	cmd = command("die")
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = io.ReadFull(pipe, make([]byte, 6))
	}
	if err != nil || len(running(state)) == 0 {
		t.Fatalf("pasta does not run: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for end := time.Now().Add(time.Minute); len(running(state)) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %v", running(state))
		}
	}
}

// running are the instances of pasta that were told to write to dir.
func running(dir string) (list []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "pasta") && strings.Contains(string(b), dir+"/") {
			list = append(list, f)
		}
	}
	return list
}
