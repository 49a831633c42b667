package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
)

// A taskDir is a directory as an executor of the Remote Execution API makes it: the program, the job and its layers.
type taskDir struct {
	t     *testing.T
	dir   string
	layer image.Layer // of the image base
	tar   string      // its tar
}

func newTaskDir(t *testing.T, base []byte) *taskDir {
	t.Helper()
	d := &taskDir{t: t, dir: t.TempDir()}
	check(t, openTo(d.dir))
	sum := digest.FromBytes(base)
	d.layer = image.Layer{Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sum, Size: int64(len(base))}, DiffID: sum}
	d.tar = filepath.Join(d.dir, executor.TaskLayers, sum.Encoded())
	check(t, os.Mkdir(filepath.Dir(d.tar), 0o755))
	check(t, os.WriteFile(d.tar, base, 0o444))
	self, err := os.Executable()
	check(t, err)
	program, err := os.ReadFile(self)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(d.dir, "forge"), program, 0o755))
	return d
}

// run writes the job of a RUN and does it as a user. It returns what came of it, what the command has printed, and the exit status.
func (d *taskDir) run(uid int, script string) (*executor.Outcome, string, int) {
	d.t.Helper()
	epoch := time.Unix(1_700_000_000, 0).UTC()
	text, err := executor.MarshalTask(executor.Job{
		On: []image.Layer{d.layer}, Epoch: &epoch,
		Op: &planner.Run{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=" + basePath}, Dir: "/", Network: "none", Platform: "linux/amd64"},
	}, nil)
	check(d.t, err)
	return d.do(uid, text)
}

func (d *taskDir) do(uid int, task []byte) (*executor.Outcome, string, int) {
	d.t.Helper()
	check(d.t, os.WriteFile(filepath.Join(d.dir, executor.TaskFile), task, 0o644))
	check(d.t, os.Chown(d.dir, uid, uid))
	var log, said strings.Builder
	cmd := exec.Command("./forge", "worker", executor.TaskFile)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = d.dir, []string{}, &log, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if err := cmd.Run(); err != nil && !isExit(err) {
		d.t.Fatal(err)
	}
	written, err := os.ReadFile(filepath.Join(d.dir, executor.OutcomeFile))
	if err != nil {
		d.t.Fatal(err, said.String())
	}
	out, err := executor.ParseOutcome(written)
	check(d.t, err)
	d.t.Logf("%s%s", written, said.String())
	if _, err := os.Lstat(filepath.Join(d.dir, scratchStore)); !errors.Is(err, os.ErrNotExist) {
		d.t.Errorf("the worker has left its store: %v", err)
	}
	return out, log.String(), cmd.ProcessState.ExitCode()
}

// TestWorker holds that forge worker, as root and as a user without any privilege, makes the layer that a build on this machine makes.
func TestWorker(t *testing.T) {
	long(t)
	t.Parallel()
	needs(t, "root", "busybox")
	base, err := busyboxTar()
	check(t, err)
	const script = "echo said; mkdir -p /d; echo x > /d/made; ln /d/made /again; rm /bin/false; chmod 4755 /again"
	want := builtLayer(t, base, script)
	for _, uid := range []int{0, ordinaryUser} {
		d := newTaskDir(t, base)
		out, log, status := d.run(uid, script)
		if status != 0 || log != "said\n" || out.Layer == nil {
			t.Fatalf("user %d: status %d, log %q, outcome %+v", uid, status, log, out)
		}
		tar, err := os.ReadFile(filepath.Join(d.dir, executor.OutcomeTar))
		check(t, err)
		if got := digest.FromBytes(tar); got != want || out.Layer.DiffID != want || out.Layer.Blob.Size != int64(len(tar)) {
			t.Errorf("user %d: layer %s, described as %+v, want %s", uid, got, out.Layer, want)
		}
		if info, err := os.Stat(d.tar); err != nil || info.Mode().Perm() != 0o444 {
			t.Errorf("user %d: the layer that was lent is %v, %v", uid, info, err)
		}
	}
}

// TestWorkerFails holds what a worker says of a job that comes to nothing.
func TestWorkerFails(t *testing.T) {
	long(t)
	t.Parallel()
	needs(t, "root", "busybox")
	base, err := busyboxTar()
	check(t, err)
	d := newTaskDir(t, base)
	out, log, status := d.run(0, "echo before; exit 3")
	if _, err := out.Result(); status != 3 || log != "before\n" || out.Exit == nil || out.Exit.Code != 3 || errors.Is(err, executor.ErrWorker) {
		t.Errorf("a command that fails: status %d, log %q, outcome %+v: %v", status, log, out, err)
	}
	out, _, status = d.do(0, []byte(`{"version":99}`))
	if _, err := out.Result(); status != 1 || !errors.Is(err, executor.ErrWorker) || !strings.Contains(out.Error, "version 99") {
		t.Errorf("a job of another version: status %d, outcome %+v", status, out)
	}
	check(t, os.Remove(d.tar))
	check(t, os.WriteFile(d.tar, base[1:], 0o444))
	out, _, status = d.run(0, "true")
	if _, err := out.Result(); status != 1 || !errors.Is(err, executor.ErrWorker) || !strings.Contains(out.Error, d.layer.DiffID.String()) {
		t.Errorf("a layer of another size: status %d, outcome %+v", status, out)
	}
}

// builtLayer is the layer of a RUN that is built on this machine.
func builtLayer(t *testing.T, base []byte, script string) digest.Digest {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "base.tar"), base, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM base\nRUN --network=none "+script+"\n"), 0o600))
	h, err := forge.Open(t.Context(), forge.Options{Dir: filepath.Join(dir, "store")})
	check(t, err)
	defer h.Close()
	_, err = h.Import(t.Context(), forge.ImportOptions{File: filepath.Join(dir, "base.tar"), Name: "base", Changes: []string{"ENV PATH=" + basePath}})
	check(t, err)
	epoch := time.Unix(1_700_000_000, 0).UTC()
	r, err := h.Build(t.Context(), forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: dir}, Epoch: &epoch})
	check(t, err)
	layers := r.Images[0].Layers()
	return layers[len(layers)-1].DiffID
}
