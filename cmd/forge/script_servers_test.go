package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// serverTime is as long as a server may take until it listens.
const serverTime = 20 * time.Second

// serveForge starts forge's own registry: registry NAME [FLAG…]. $NAME becomes its host and port, NAME.log its requests.
func serveForge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: registry NAME [FLAG…]")
	}
	name := args[0]
	flags := append([]string{"registry", "serve", "--addr=127.0.0.1:0", "--root=" + ts.MkAbs(name+".data")}, args[1:]...)
	cmd := exec.Command("forge", flags...)
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	startServer(ts, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("registry: %v: %s", err, text)
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(line, "listening on "), ",")
	ts.Setenv(name, addr)
	ts.Defer(func() { _ = log.Close() })
}

// serveDistribution starts the distribution's registry: docker-registry NAME [HTPASSWD].
func serveDistribution(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: docker-registry NAME [HTPASSWD]")
	}
	addr := freeAddr(ts)
	text := "version: 0.1\nlog:\n  level: error\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: " +
		ts.MkAbs(args[0]+".data") + "\nhttp:\n  addr: " + addr + "\n  secret: story\n"
	if len(args) == 2 {
		text += "auth:\n  htpasswd:\n    realm: story\n    path: " + ts.MkAbs(args[1]) + "\n"
	}
	conf := ts.MkAbs(args[0] + ".yml")
	ts.Check(os.WriteFile(conf, []byte(text), 0o600))
	cmd := exec.Command("docker-registry", "serve", conf)
	cmd.Env = []string{} // it takes any REGISTRY_* for its configuration
	startServer(ts, cmd)
	ts.Check(dialUntil(addr))
	ts.Setenv(args[0], addr)
}

// serveFiles serves a directory over http, and repositories in it, whose names end in .git, to git: www NAME DIR.
// NAME.log lists the requests.
func serveFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: www NAME DIR")
	}
	dir := ts.MkAbs(args[1])
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	git := &cgi.Handler{
		Path:   "/usr/lib/git-core/git-http-backend",
		Stderr: log,
		Env:    []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	files := http.FileServer(http.Dir(dir))
	var mu sync.Mutex // of log
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		_, _ = fmt.Fprintln(log, r.Method, r.URL)
		mu.Unlock()
		if strings.Contains(r.URL.Path, ".git/") {
			git.ServeHTTP(w, r)
		} else {
			files.ServeHTTP(w, r)
		}
	}))
	ts.Setenv(args[0], srv.URL)
	ts.Defer(func() {
		srv.Close()
		_ = log.Close()
	})
}

// startServer starts a program that lives as long as the story.
func startServer(ts *testscript.TestScript, cmd *exec.Cmd) {
	cmd.Dir = ts.MkAbs(".")
	if cmd.Env == nil {
		cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "FORGE_ROOT="+ts.Getenv("FORGE_ROOT"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// freePort finds a port that nobody listens on: port NAME. $NAME becomes host and port.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	ts.Setenv(args[0], freeAddr(ts))
}

func freeAddr(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr := l.Addr().String()
	ts.Check(l.Close())
	return addr
}

// reach waits until somebody listens at an address: reach HOST:PORT.
func reach(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reach HOST:PORT")
	}
	ts.Check(dialUntil(args[0]))
}

func dialUntil(addr string) error {
	for end := time.Now().Add(serverTime); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// textIn sets a variable to the first match of a pattern in a file, or its first group: let NAME FILE PATTERN.
// FILE may be stdout or stderr.
func textIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: let NAME FILE PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	match := pattern.FindStringSubmatch(ts.ReadFile(args[1]))
	if match == nil {
		ts.Fatalf("%s has nothing like %s", filepath.Base(args[1]), args[2])
	}
	ts.Setenv(args[0], match[len(match)-1])
}
