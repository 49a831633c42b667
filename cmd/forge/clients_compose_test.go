package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// composeKit is a kit with the project of testdata/clients/compose, for one of the versions of docker compose: "2" or "5".
func composeKit(t *testing.T, version string) (*kit, *apiServer) {
	t.Helper()
	k := newClientKit(t)
	server := k.serveAPI()
	k.cli = map[string]string{"2": "docker", "5": "docker-29"}[version]
	k.plugin("docker-compose", "docker-compose-"+version)
	k.plugin("docker-buildx", map[string]string{"2": "docker-buildx-debian", "5": "docker-buildx-38"}[version])
	if out, err := exec.Command("cp", "-r", "../../testdata/clients/compose", k.dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return k, server
}

// compose runs docker compose in the project, which has to succeed, and returns its standard output.
func (k *kit) compose(args ...string) string {
	k.t.Helper()
	return k.mustClient(0, k.docker("compose", append([]string{"compose"}, args...)...))
}

// states are the containers of the project and what they do.
func (k *kit) states() string {
	k.t.Helper()
	return k.compose("ps", "-a", "--format", "{{.Name}} {{.State}} {{.Health}}")
}

// TestClientCompose does with docker compose what people do with it in a day.
func TestClientCompose(t *testing.T) {
	for _, version := range []string{"2", "5"} {
		t.Run(version, func(t *testing.T) {
			k, _ := composeKit(t, version)
			k.recorded()
			k.compose("up", "--build", "-d")
			k.composeInside()
			k.composeOver()
			k.compose("--profile", "more", "down", "-v", "-t", "1")
			for _, what := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q", "--filter", "type=custom"}} {
				if left := k.must(what...); left != "" {
					t.Errorf("forge %v after compose down -v: %s", what, left)
				}
			}
		})
	}
}

// composeInside looks at the containers of a project that is up.
func (k *kit) composeInside() {
	k.t.Helper()
	states := k.states()
	for _, want := range []string{"story-db-1 running healthy\n", "story-web-1 running", "story-worker-1 running", "story-worker-2 running"} {
		k.says(states, want)
	}
	k.says(k.compose("exec", "-T", "web", "cat", "/page", "/src/file"), "built\none\n")
	k.says(k.compose("exec", "-T", "worker", "sh", "-c", "busybox nc site 80 </dev/null"), "built\n")
	k.mustClient(1, k.docker("compose", "compose", "exec", "-T", "worker", "sh", "-c", "busybox nc front-only 80 </dev/null"))
	address := strings.TrimSpace(k.compose("port", "web", "80"))
	host, port, _ := strings.Cut(address, ":")
	k.says(k.mustClient(0, k.client("", "busybox", "nc", host, port)), "built\n")
	k.says(k.compose("logs", "--no-log-prefix", "db"), "db began\nsecret\nconfigured\n")
	k.says(k.compose("run", "--rm", "-T", "db", "sh", "-c", "echo $WORD; cat /run/secrets/password"), "db\nsecret\n")
	k.mustClient(6, k.docker("compose", "compose", "run", "--rm", "-T", "db", "sh", "-c", "exit 6"))
	k.says(k.compose("top", "db"), "sleep 1000")
	k.says(k.compose("images"), "story-web")
	k.says(k.compose("ls"), "running(4)")
}

// composeOver changes a project that is up, and stops and starts it.
func (k *kit) composeOver() {
	k.t.Helper()
	before := k.must("ps", "-q", "--no-trunc")
	k.compose("up", "-d") // nothing has changed
	if after := k.must("ps", "-q", "--no-trunc"); after != before {
		k.t.Errorf("compose up of what is up: containers %q, before %q", after, before)
	}
	follow := k.docker("compose", "compose", "logs", "-f", "--no-log-prefix", "db", "web")
	if err := follow.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.compose("restart", "worker")
	k.compose("up", "-d", "--scale", "worker=3", "--no-recreate")
	k.says(k.states(), "story-worker-3 running")
	k.compose("--profile", "more", "up", "-d", "--scale", "worker=1")
	states := k.states()
	k.says(states, "story-extra-1 running")
	if strings.Contains(states, "story-worker-2") {
		k.t.Errorf("after scale worker=1: %s", states)
	}
	k.compose("pause", "worker")
	k.says(k.states(), "story-worker-1 paused")
	k.compose("unpause", "worker")
	k.compose("--profile", "more", "stop", "-t", "1")
	k.says(k.states(), "story-db-1 exited")
	if err := follow.Wait(); err != nil { // it ends with the containers
		k.t.Errorf("compose logs -f: %v: %s", err, follow.err.String())
	}
	k.says(follow.out.String(), "web began\n")
	k.says(follow.out.String(), "db ends\n")
	k.compose("start")
	k.says(k.states(), "story-db-1 running")
	k.says(k.states(), "story-web-1 running")
}

// TestClientComposeWatch has compose copy files into a container when they change.
func TestClientComposeWatch(t *testing.T) {
	k, _ := composeKit(t, "5")
	k.compose("up", "--build", "-d", "web")
	a := k.docker("compose", "compose", "watch", "--no-up", "web")
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = a.Process.Signal(os.Interrupt)
		_ = a.Wait()
	}()
	for n := 0; ; n++ {
		if n%10 == 0 { // until compose has begun to watch; it waits until a file has been quiet
			k.write("compose/site/file", strings.Repeat("again\n", 1+n%20))
		}
		time.Sleep(200 * time.Millisecond)
		if got := k.do(k.command("exec", "story-web-1", "cat", "/watched/file")); strings.HasPrefix(got.out.String(), "again\n") {
			return
		}
		if n > 300 {
			t.Fatalf("the file did not come: %s%s", a.out.String(), a.err.String())
		}
	}
}

// TestClientComposeForeground has compose up stay, show what containers print, and stop them when it is interrupted.
func TestClientComposeForeground(t *testing.T) {
	k, _ := composeKit(t, "5")
	a := k.docker("compose", "compose", "up", "--build")
	log, err := os.Create(filepath.Join(k.dir, "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	a.Stdout, a.Stderr = log, log
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	k.waitFor(log.Name(), "web began")
	pid := k.children(a.Process.Pid)
	if err := exec.Command("kill", "-INT", pid).Run(); err != nil {
		t.Fatal(err)
	}
	_ = a.Wait()
	text, _ := os.ReadFile(log.Name())
	k.says(string(text), "Container story-db-1 Stopped")
	for line := range strings.Lines(k.states()) {
		if !strings.Contains(line, "exited") {
			t.Errorf("after compose up was interrupted: %s", line)
		}
	}
	k.says(k.compose("logs", "--no-log-prefix", "db"), "db ends\n")
	k.compose("down", "-v")
}

// waitFor waits until a file has a text in it.
func (k *kit) waitFor(path, text string) {
	k.t.Helper()
	for range 6000 {
		if raw, _ := os.ReadFile(path); strings.Contains(string(raw), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	raw, _ := os.ReadFile(path)
	k.t.Fatalf("%s has no %q: %s", path, text, raw)
}

// children is the process that timeout has started.
func (k *kit) children(pid int) string {
	k.t.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		k.t.Fatal(err)
	}
	return strings.Fields(string(out))[0]
}

// TestClientComposeKilled kills forge api while compose makes a project, at different moments. What is there then is whole, and compose
// makes the rest.
func TestClientComposeKilled(t *testing.T) {
	k, server := composeKit(t, "5")
	k.compose("build")
	for _, moment := range []time.Duration{200 * time.Millisecond, 600 * time.Millisecond, 1200 * time.Millisecond} {
		a := k.docker("compose", "compose", "up", "-d")
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(moment)
		server.again()
		_ = a.Wait() // it may have failed, and may have been done
		ours := strings.Count(k.must("ps", "-aq"), "\n")
		if theirs := strings.Count(k.states(), "\n"); theirs != ours {
			t.Errorf("killed after %v: compose ps lists %d containers, and forge ps %d", moment, theirs, ours)
		}
		k.compose("up", "-d")
		states := k.states()
		for _, want := range []string{"story-db-1 running healthy\n", "story-web-1 running", "story-worker-1 running", "story-worker-2 running"} {
			k.says(states, want)
		}
		if strings.Count(states, "\n") != 4 {
			t.Errorf("killed after %v, and up again: %s", moment, states)
		}
		k.compose("down", "-v", "-t", "1")
	}
	server.end()
	k.tidy("compose down")
}

// TestClientTestcontainers runs a Go program that uses testcontainers-go. Ryuk, which removes what a program has left, is an image that
// cannot be had; TestClientReaper has what it needs.
func TestClientTestcontainers(t *testing.T) {
	k := newClientKit(t)
	k.serveAPI()
	k.recorded()
	k.env = append(k.env, "TESTCONTAINERS_RYUK_DISABLED=true")
	printed := k.mustClient(0, k.client("", filepath.Join(clientsDir(), "bin/testcontainers"), "base"))
	for _, want := range []string{"port: copied in", "exec: 3", "logs: begun", "copy: copied in", "build: built", "ok"} {
		k.says(printed, want+"\n")
	}
	if left := k.must("ps", "-aq"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}

// TestClientReaper lets a program of testcontainers-go leave what it has made. What its library starts for that removes it: a container
// into which the API's socket is mounted.
func TestClientReaper(t *testing.T) {
	k := newClientKit(t)
	k.serveAPI()
	program, err := os.ReadFile(filepath.Join(clientsDir(), "bin/reaper"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.write("reaper/program", ""), program, 0o755); err != nil {
		t.Fatal(err)
	}
	k.write("reaper/Dockerfile", "FROM scratch\nCOPY --chmod=755 program /program\nENTRYPOINT [\"/program\"]\n")
	k.must("build", "-t", "testcontainers/ryuk:0.14.0", filepath.Join(k.dir, "reaper"))
	k.mustClient(0, k.client("", filepath.Join(clientsDir(), "bin/testcontainers"), "base", "leave"))
	if made := k.must("ps", "-q"); strings.Count(made, "\n") != 2 {
		t.Errorf("containers of the program and its reaper: %q", made)
	}
	left := k.soon(func() []string {
		return strings.Fields(k.must("ps", "-aq") + k.must("network", "ls", "-q", "--filter", "type=custom"))
	})
	if len(left) > 0 {
		t.Errorf("the reaper has left %v: %s", left, k.must("ps", "-a"))
	}
}

// TestClientDockerode runs a program for node that uses dockerode.
func TestClientDockerode(t *testing.T) {
	k := newClientKit(t)
	k.serveAPI()
	k.recorded()
	script, err := filepath.Abs("../../testdata/clients/dockerode.js")
	if err != nil {
		t.Fatal(err)
	}
	k.env = append(k.env, "NODE_PATH="+filepath.Join(clientsDir(), "node/node_modules"))
	k.says(k.mustClient(0, k.client("", "node", script, "base")), "ok\n")
}
