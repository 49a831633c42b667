package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// An apiServer is `forge api` for the kit's store.
type apiServer struct {
	start   func() *attempt
	running *attempt
}

// end has it end as by ^C.
func (s *apiServer) end() {
	_ = s.running.Process.Signal(os.Interrupt)
	_ = s.running.Wait()
}

// again kills it, and starts another.
func (s *apiServer) again() {
	_ = s.running.Process.Kill()
	_ = s.running.Wait()
	s.running = s.start()
}

// serveAPI starts `forge api` and has clients find it.
func (k *kit) serveAPI() *apiServer {
	k.t.Helper()
	socket := filepath.Join(k.dir, "docker.sock")
	config := filepath.Join(k.dir, "docker")
	k.env = append(k.env, "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+config)
	if err := os.MkdirAll(filepath.Join(config, "cli-plugins"), 0o755); err != nil {
		k.t.Fatal(err)
	}
	s := &apiServer{start: func() *attempt {
		log, err := os.Create(filepath.Join(k.dir, "api.log"))
		if err != nil {
			k.t.Fatal(err)
		}
		a := k.command("api", "--socket", socket)
		a.Stdout, a.Stderr = log, log
		a.Env = append(a.Env, "DOCKER_CONFIG="+filepath.Join(k.dir, "server"), "DOCKER_HOST=") // not the client's
		k.start(a)
		for range 6000 {
			if text, _ := os.ReadFile(log.Name()); strings.Contains(string(text), "export DOCKER_HOST=") {
				return a
			}
			time.Sleep(10 * time.Millisecond)
		}
		text, _ := os.ReadFile(log.Name())
		k.t.Fatalf("forge api does not start: %s", text)
		return nil
	}}
	s.running = s.start()
	k.t.Cleanup(s.end)
	return s
}

// plugin lets docker find a plugin: docker-compose or docker-buildx, which the file of scripts/clients.sh is.
func (k *kit) plugin(name, file string) {
	k.t.Helper()
	at := filepath.Join(k.dir, "docker/cli-plugins", name)
	_ = os.Remove(at)
	if err := os.Symlink(filepath.Join(clientsDir(), "bin", file), at); err != nil {
		k.t.Fatal(err)
	}
}

// docker prepares docker's command in a directory of the kit.
func (k *kit) docker(dir string, args ...string) *attempt {
	return k.client(dir, filepath.Join(clientsDir(), "bin", k.cli), args...)
}

// eachDocker does something with each version of docker's command: that of Debian, and the newest.
func eachDocker(t *testing.T, do func(k *kit)) {
	t.Helper()
	for _, cli := range []string{"docker", "docker-29"} {
		t.Run(cli, func(t *testing.T) {
			k := newClientKit(t)
			k.cli = cli
			do(k)
		})
	}
}

// mustDocker runs docker's command, which has to succeed, and returns its standard output.
func (k *kit) mustDocker(args ...string) string {
	k.t.Helper()
	return k.mustClient(0, k.docker("", args...))
}

// TestClientDocker uses docker's command for images, registries, networks, volumes, events and what takes room.
func TestClientDocker(t *testing.T) { eachDocker(t, (*kit).dockerNouns) }

func (k *kit) dockerNouns() {
	k.t.Helper()
	k.serveAPI()
	k.says(k.mustDocker("version", "--format", "{{.Server.Version}} {{.Server.Platform.Name}}"), "28.5.2 forge")
	k.says(k.mustDocker("info", "--format", "{{.OSType}} {{.Images}}"), "linux 1")
	k.says(k.mustDocker("images", "--format", "{{.Repository}}:{{.Tag}}"), "base:latest")
	k.says(k.mustDocker("history", "base", "--no-trunc"), "forge import")
	k.mustDocker("tag", "base", "other/name:1")
	k.says(k.mustDocker("image", "inspect", "other/name:1", "--format", "{{.RepoTags}}"), "other/name:1")
	k.says(k.mustDocker("rmi", "other/name:1"), "Untagged: other/name:1")
	k.mustDocker("save", "-o", filepath.Join(k.dir, "saved.tar"), "base")
	k.mustDocker("tag", "base", "kept")
	k.mustDocker("rmi", "base")
	k.says(k.mustDocker("load", "-i", filepath.Join(k.dir, "saved.tar")), "Loaded image: base:latest")
	k.says(k.mustDocker("import", "-c", "LABEL x=y", filepath.Join(k.dir, "base.tar"), "imported:1"), "sha256:")
	k.says(k.mustDocker("inspect", "imported:1", "--format", "{{.Config.Labels}}"), "map[x:y]")

	k.mustDocker("network", "create", "--label", "a=b", "--subnet", "10.231.9.0/24", "n1")
	k.says(k.mustDocker("network", "ls", "--filter", "label=a=b", "--format", "{{.Name}} {{.Driver}}"), "n1 bridge")
	k.says(k.mustDocker("network", "inspect", "n1", "--format", "{{(index .IPAM.Config 0).Subnet}}"), "10.231.9.0/24")
	k.says(k.mustDocker("network", "prune", "-f"), "n1")
	k.mustDocker("volume", "create", "--label", "a=b", "v1")
	k.says(k.mustDocker("volume", "ls", "-q"), "v1")
	k.says(k.mustDocker("system", "df", "-v"), "v1")
	k.mustDocker("volume", "rm", "v1")
	k.mustClient(1, k.docker("", "volume", "inspect", "v1"))
	k.mustClient(1, k.docker("", "inspect", "absent"))
	events := k.mustDocker("events", "--since", "1h", "--until", "-1s", "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}")
	k.dockerMore()
	k.says(events, "volume create v1\n")
	k.says(events, "volume destroy v1\n")
	k.says(k.mustDocker("events", "--since", "1h", "--until", "-1s", "--filter", "type=network", "--format", "{{.Action}}"), "create\ndestroy\n")
}

// dockerMore looks at what runs and what there is as people do, without a format of their own, through a context, and clears up.
func (k *kit) dockerMore() {
	k.t.Helper()
	k.mustDocker("run", "-d", "--name", "web", "-v", "data:/d", "base", "sleep", "1000")
	k.mustDocker("context", "create", "here", "--docker", "host=unix://"+filepath.Join(k.dir, "docker.sock"))
	k.says(k.mustDocker("context", "ls"), "here ")
	k.says(k.mustDocker("--context", "here", "ps"), " web\n")
	k.mustDocker("context", "rm", "here")
	k.says(k.mustDocker("images"), "base")
	k.says(k.mustDocker("image", "ls", "--tree"), "linux/"+runtime.GOARCH)
	k.says(k.mustDocker("stats", "--no-stream"), " web ")
	k.says(k.mustDocker("system", "df"), "Local Volumes   1         1 ")
	k.says(k.mustDocker("system", "info"), "Server Version: 28.5.2")
	k.mustDocker("network", "create", "n2")
	k.mustDocker("network", "connect", "--alias", "other", "n2", "web")
	k.says(k.mustDocker("network", "inspect", "n2", "--format", "{{range .Containers}}{{.Name}}{{end}}"), "web")
	k.mustDocker("network", "disconnect", "n2", "web")
	k.mustDocker("kill", "web")
	pruned := k.mustDocker("system", "prune", "-af", "--volumes")
	for _, want := range []string{"Deleted Containers:", "Deleted Networks:\nn2\n", "Total reclaimed space: "} {
		k.says(pruned, want)
	}
	k.says(k.mustDocker("volume", "rm", "data"), "data") // it has a name, and so is left
}

// TestClientDockerRegistry pushes to and pulls from a registry that asks who it is. The server keeps no credentials.
func TestClientDockerRegistry(t *testing.T) {
	needs(t, "htpasswd")
	eachDocker(t, (*kit).dockerRegistry)
}

func (k *kit) dockerRegistry() {
	k.t.Helper()
	k.serveAPI()
	address, _ := k.serve("registry", "--htpasswd", k.htpasswd("user", "word"))
	name := address + "/team/app:1"
	k.mustDocker("tag", "base", name)
	k.says(k.failsDocker("push", name), "401")
	k.says(k.failsDocker("login", "-u", "user", "-p", "wrong", address), "401 UNAUTHORIZED")
	k.says(k.mustDocker("login", "-u", "user", "-p", "word", address), "Login Succeeded")
	pushed := k.mustDocker("push", name)
	k.says(pushed, "Pushed")
	k.says(pushed, "1: digest: sha256:")
	k.says(k.mustDocker("push", name), "Layer already exists")
	k.says(k.mustDocker("search", address+"/app"), address+"/team/app ")
	k.mustDocker("rmi", name)
	k.says(k.mustDocker("pull", name), "Status: Downloaded newer image for "+name)
	k.says(k.mustDocker("pull", name), "Status: Image is up to date for "+name)
	k.says(k.mustDocker("manifest", "inspect", "--insecure", name), "schemaVersion")
	k.says(k.mustDocker("image", "inspect", name, "--format", "{{.RepoDigests}}"), "team/app@sha256:")
	k.mustDocker("logout", address)
	k.says(k.failsDocker("pull", address+"/team/absent"), "401")
}

// htpasswd makes a file of one user.
func (k *kit) htpasswd(user, password string) string {
	k.t.Helper()
	a := k.client("", "htpasswd", "-Bbn", user, password)
	return k.write("htpasswd", k.mustClient(0, a))
}

// failsDocker runs docker's command, which has to fail, and returns what it has said.
func (k *kit) failsDocker(args ...string) string {
	k.t.Helper()
	a := k.docker("", args...)
	k.mustClient(1, a)
	return a.out.String() + a.err.String()
}

// TestClientDockerBuild builds without buildx: the daemon's own syntax is forge's, with mounts, stages and arguments.
func TestClientDockerBuild(t *testing.T) { eachDocker(t, (*kit).dockerBuild) }

func (k *kit) dockerBuild() {
	k.t.Helper()
	k.serveAPI()
	k.env = append(k.env, "DOCKER_BUILDKIT=0")
	dir := k.context("project", "ARG FROM=base\nFROM $FROM AS one\nARG A\nRUN --mount=type=cache,target=/c <<END\necho got $A >/a\nEND\n\nFROM base\nCOPY --from=one /a /a\nCOPY file /\nRUN cat /a /file")
	printed := k.mustDocker("build", "-t", "made:1", "-t", "made:2", "--build-arg", "A=value", "--label", "l=m", dir)
	k.says(printed, "got value\nproject\n")
	k.says(printed, "Successfully built ")
	k.says(printed, "Successfully tagged made:1\nSuccessfully tagged made:2\n")
	k.says(k.mustDocker("build", "-t", "made:1", "--build-arg", "A=value", "--label", "l=m", dir), "---> Using cache")
	k.says(k.mustDocker("build", "-q", "--build-arg", "A=value", "--label", "l=m", dir), strings.TrimSpace(k.mustDocker("inspect", "made:1", "--format", "{{.ID}}")))
	k.says(k.mustDocker("inspect", "made:2", "--format", "{{.Config.Labels}}"), "map[l:m]")
	bad := k.context("bad", "FROM base\nRUN exit 7")
	k.says(k.failsDockerWith(7, "build", bad), "RUN exit 7")
	k.says(k.failsDocker("build", k.context("worse", "FROM base\nNONE")), "unknown instruction: NONE")
	k.says(k.failsDocker("build", k.context("absent", "FROM localhost:1/absent")), "localhost:1/absent")
	var input bytes.Buffer
	input.WriteString("FROM base\nLABEL from=stdin\n")
	a := k.docker("", "build", "-t", "made:3", "-")
	a.Stdin = &input
	k.says(k.mustClient(0, a), "Successfully tagged made:3")
}

// failsDockerWith is failsDocker for a status of its own.
func (k *kit) failsDockerWith(status int, args ...string) string {
	k.t.Helper()
	a := k.docker("", args...)
	k.mustClient(status, a)
	return a.out.String() + a.err.String()
}
