package main

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestClientBuildx builds with docker build through the versions of buildx, which speak BuildKit's API.
func TestClientBuildx(t *testing.T) {
	for plugin, cli := range map[string]string{"docker-buildx-debian": "docker", "docker-buildx-38": "docker-29"} {
		t.Run(plugin, func(t *testing.T) {
			k := newClientKit(t)
			k.cli = cli
			k.serveAPI()
			k.plugin("docker-buildx", plugin)
			t.Run("build", func(*testing.T) { k.buildxBuild() })
			t.Run("files", func(*testing.T) { k.buildxFiles() })
			t.Run("lent", func(*testing.T) { k.buildxLent() })
			t.Run("layouts", func(*testing.T) { k.buildxLayouts() })
			t.Run("failures", func(*testing.T) { k.buildxFailures() })
			t.Run("registry", func(*testing.T) { k.buildxRegistry() })
			t.Run("remote", func(*testing.T) { k.buildxRemote() })
			t.Run("bake", func(*testing.T) { k.buildxBake() })
			t.Run("history", func(*testing.T) { k.buildxHistory() })
		})
	}
}

// plain runs docker build with a log, which it returns.
func (k *kit) plain(args ...string) string {
	k.t.Helper()
	a := k.docker("", append([]string{"build", "--progress", "plain"}, args...)...)
	k.mustClient(0, a)
	return a.err.String()
}

// buildxBuild makes images, of which all is in the log, and asks what could be built.
func (k *kit) buildxBuild() {
	secret := k.write("secret", "hush")
	dir := k.context("project", "# syntax=docker/dockerfile:1\nFROM base AS one\nARG A\nRUN --mount=type=secret,id=s echo got $A $(cat /run/secrets/s)\n\nFROM one AS two\nCOPY file /\nLABEL a=b")
	args := []string{"-t", "made:1", "--build-arg", "A=value", "--label", "l=m", "--secret", "id=s,src=" + secret, dir}
	log := k.plain(args...)
	k.says(log, "got value hush")
	k.says(log, "[two 1/1] COPY file /")
	k.says(k.mustDocker("inspect", "made:1", "--format", "{{.Config.Labels}}"), "map[a:b l:m]")
	k.says(k.plain(args...), "CACHED")
	id := strings.TrimSpace(k.mustDocker("inspect", "made:1", "--format", "{{.ID}}"))
	k.says(k.mustDocker(append([]string{"build", "-q"}, args...)...), id)
	k.says(k.plain(append([]string{"--target", "one", "--no-cache", "--metadata-file", filepath.Join(k.dir, "meta.json")}, args[2:]...)...), "got value hush")
	meta, err := os.ReadFile(filepath.Join(k.dir, "meta.json"))
	if err != nil {
		k.t.Fatal(err)
	}
	k.says(string(meta), "containerimage.digest")
	k.says(k.mustDocker("build", "--call", "check", dir), "Check complete, no warnings found.")
	k.says(k.mustDocker("build", "--call", "outline", dir), "BUILD ARG")
	k.says(k.mustDocker("build", "--call", "targets", dir), "two (default)")
	other := k.context("other", "FROM other\nRUN true")
	k.says(k.plain("--build-context", "other=docker-image://base", "--build-context", "dir="+dir, other), "FROM docker-image://base@sha256")
	a := k.docker("", "build", "--progress", "plain", "-f", "-", dir)
	a.Stdin = strings.NewReader("FROM base\nCOPY file /\nRUN cat /file")
	k.mustClient(0, a)
	k.says(a.err.String(), "project")
}

// buildxFiles has results sent to the client.
func (k *kit) buildxFiles() {
	dir := k.context("files", "FROM scratch\nCOPY file /dir/file")
	out := filepath.Join(k.dir, "out")
	k.plain("-o", out, dir)
	if b, err := os.ReadFile(filepath.Join(out, "dir/file")); err != nil || string(b) != "files\n" {
		k.t.Errorf("the file has %q, %v", b, err)
	}
	for kind, want := range map[string]string{"tar": "dir/file", "oci": "index.json", "docker": "manifest.json"} {
		archive := filepath.Join(k.dir, kind+".tar")
		k.plain("-t", "x:1", "-o", "type="+kind+",dest="+archive, dir)
		f, err := os.Open(archive)
		if err != nil {
			k.t.Fatal(err)
		}
		var names []string
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				k.t.Fatalf("%s: %v", kind, err)
			}
			names = append(names, h.Name)
		}
		f.Close()
		if !slices.Contains(names, want) {
			k.t.Errorf("%s has %q, without %s", kind, names, want)
		}
	}
}

// blobsIn counts the blobs of an OCI layout.
func (k *kit) blobsIn(dir string) int {
	k.t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if err != nil {
		k.t.Fatal(err)
	}
	return len(entries)
}

// buildxLayouts writes images and a cache into directories of the client, where others are already.
func (k *kit) buildxLayouts() {
	layout := filepath.Join(k.dir, "layouts")
	for _, name := range []string{"one", "two"} {
		k.plain("-t", name+":1", "-o", "type=oci,tar=false,dest="+layout, k.context(name, "FROM base\nCOPY file /"))
	}
	for _, name := range []string{"one", "two"} {
		k.must("copy", "oci:"+layout+":docker.io/library/"+name+":1", "oci:"+filepath.Join(k.dir, name+"-copied"))
		if n := k.blobsIn(filepath.Join(k.dir, name+"-copied")); n != 4 { // base, file, configuration, manifest
			k.t.Errorf("image %s has %d blobs", name, n)
		}
	}
	if n := k.blobsIn(layout); n != 7 { // the base is there once
		k.t.Errorf("the layout has %d blobs", n)
	}

	cache := filepath.Join(k.dir, "reset")
	to := "type=local,mode=max,reset=true,dest=" + cache
	k.plain("--cache-to", to, k.context("reset", "FROM base\nRUN echo one >/one\nRUN echo two >/two"))
	before := k.blobsIn(cache)
	dir := k.context("reset", "FROM base\nRUN echo three >/three")
	k.plain("--cache-to", to, dir)
	if after := k.blobsIn(cache); after >= before && k.cli != "docker" { // buildx 0.29 does not know reset
		k.t.Errorf("after its reset the cache has %d blobs, before %d", after, before)
	}
	k.mustDocker("builder", "prune", "-af")
	log := k.plain("--cache-from", "type=local,src="+cache, dir)
	if !regexp.MustCompile(`RUN echo three >/three\n#\d+ CACHED`).MatchString(log) {
		k.t.Errorf("the step is not taken from the cache that was reset:\n%s", log)
	}
}

// buildxLent keeps a cache in a directory of the client, reads it after the server has lost its own, and builds on an image in such a directory.
func (k *kit) buildxLent() {
	dir := k.context("lent", "FROM base\nRUN echo once >/lent")
	cache := filepath.Join(k.dir, "lent-cache")
	k.plain("--cache-to", "type=local,mode=max,dest="+cache, dir)
	k.mustDocker("builder", "prune", "-af")
	log := k.plain("--cache-from", "type=local,src="+cache, "--cache-to", "type=local,mode=max,dest="+cache, dir)
	if !regexp.MustCompile(`RUN echo once >/lent\n#\d+ CACHED`).MatchString(log) {
		k.t.Errorf("the step is not taken from the client's cache:\n%s", log)
	}
	archive, layout := filepath.Join(k.dir, "lent.tar"), filepath.Join(k.dir, "lent-layout")
	k.plain("-o", "type=oci,dest="+archive, dir)
	if err := os.Mkdir(layout, 0o755); err != nil {
		k.t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", layout, "-xf", archive).CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %s", err, out)
	}
	k.plain("-t", "lent:1", "--build-context", "below=oci-layout://"+layout, k.context("above", "FROM below\nRUN cat /lent >/above"))
	k.says(k.mustDocker("run", "--rm", "lent:1", "cat", "/above"), "once\n")
}

// buildxFailures are builds that fail, and say why.
func (k *kit) buildxFailures() {
	k.says(k.failsDocker("build", k.context("bad", "FROM base\nRUN exit 7")), ">>> RUN exit 7")
	k.says(k.failsDocker("build", k.context("worse", "FROM base\nNONE")), "unknown instruction: NONE")
	k.says(k.failsDocker("build", k.context("foreign", "# syntax=foo/bar\nFROM base")), "only docker/dockerfile is read here")
	k.says(k.failsDocker("build", k.context("absent", "FROM localhost:1/absent")), "localhost:1/absent")
}

// buildxRegistry pushes with the client's credentials, and shares a cache.
func (k *kit) buildxRegistry() {
	address, stop := k.serve("registry", "--htpasswd", k.htpasswd("user", "secret"))
	defer stop()
	a := k.docker("", "login", "-u", "user", "--password-stdin", address)
	a.Stdin = strings.NewReader("secret")
	k.mustClient(0, a)
	dir := k.context("pushed", "FROM base\nRUN echo once")
	k.says(k.plain("--push", "-t", address+"/team/app:1", "--cache-to", "type=registry,ref="+address+"/team/cache,mode=max", dir), "push "+address+"/team/app:1")
	k.says(k.mustDocker("pull", address+"/team/app:1"), "Digest: sha256:")
	k.plain("--cache-from", "type=registry,ref="+address+"/team/cache", dir)
}

// buildxRemote uses a builder of the remote driver, which speaks to the socket without docker's API.
func (k *kit) buildxRemote() {
	k.mustDocker("buildx", "create", "--name", "far", "--driver", "remote", "unix://"+filepath.Join(k.dir, "docker.sock"))
	k.says(k.mustDocker("buildx", "inspect", "far"), "running")
	dir := k.context("far", "FROM base\nCOPY file /")
	a := k.docker("", "buildx", "build", "--builder", "far", "--load", "-t", "far:1", dir)
	k.mustClient(0, a)
	k.says(k.mustDocker("images", "--format", "{{.Repository}}:{{.Tag}}"), "far:1")
	k.mustDocker("buildx", "du", "--builder", "far")
	k.mustDocker("buildx", "prune", "-f", "--builder", "far")
}

// buildxBake builds targets of which one stands on the other.
func (k *kit) buildxBake() {
	dir := k.context("bake", "FROM below\nRUN cat /made")
	k.write("bake/below.Dockerfile", "FROM base\nRUN echo by bake >/made")
	file := k.write("bake.json", `{"target": {"default": {"context": "`+dir+`", "contexts": {"below": "target:below"}, "tags": ["baked:1"]},
		"below": {"context": "`+dir+`", "dockerfile": "below.Dockerfile"}}}`)
	a := k.docker("", "buildx", "bake", "--allow", "fs.read=*", "--progress", "plain", "-f", file)
	k.mustClient(0, a)
	k.says(a.err.String(), "by bake")
	k.says(k.mustDocker("images", "--format", "{{.Repository}}:{{.Tag}}"), "baked:1")
}
