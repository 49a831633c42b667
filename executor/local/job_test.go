package local

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source/sourcetest"
)

// A job that travels is written to a file, and the blobs of its layers lie in a directory.
const (
	jobVariable   = "FORGE_TEST_JOB"
	blobsVariable = "FORGE_TEST_BLOBS"
)

// TestJobElsewhere holds that a job is data: written as JSON and done by another process with another store, which is given
// its layers and no context, it makes the same layer.
func TestJobElsewhere(t *testing.T) {
	t.Parallel()
	if name := os.Getenv(jobVariable); name != "" {
		doElsewhere(t, name)
		return
	}
	repo := sourcetest.NewRepo(t)
	repo.Git("r.git", "init", "-q", "-b", "main")
	repo.Commit("r.git", "a=1", "d/b=2")
	server := newTestServer(t, "content")
	h := newRunHome(t)
	h.worker.Inputs.Contexts = map[string]filetree.Tree{
		"": testContext(t, "dir/a =1 600; dir/s/b =2; dir/x =3; hard =4 #1; dir/hard =4 #1; link ->/dir; hidden =5", "hidden"),
	}
	stage := testLayers(t, h.worker, "out/f =1 755 3:4; out/l ->f; etc/passwd =me:x:7:8:::")
	base := h.base.Layers()
	epoch := time.Unix(1_700_000_000, 0).UTC()
	for _, test := range []struct {
		name string
		job  executor.Job
	}{
		{"RUN", executor.Job{On: base, Op: sh("echo x > /made; ln /made /again")}},
		{"RUN with binds", executor.Job{On: base, Reads: [][]image.Layer{stage}, Op: sh(
			"cat /in/a /in/s/b /of/f > /made; ls -ln /in /of | tr -s ' ' > /list",
			planner.Mount{Type: planner.Bind, Target: "/in", From: mainContext(), Source: "/link", ReadOnly: true},
			planner.Mount{Type: planner.Bind, Target: "/of", From: input(0), Source: "/out", ReadOnly: true})}},
		{"COPY", executor.Job{On: base, Op: testCopy(t, "COPY --exclude=x . /all/")}},
		{"COPY of a link", executor.Job{Op: testCopy(t, "COPY link /d/")}},
		{"COPY of wildcards", executor.Job{Op: testCopy(t, "COPY --chmod=u+x link/* ha* /d/")}},
		{"COPY --parents", executor.Job{Op: testCopy(t, "COPY --parents dir/./s/b /d/")}},
		{"COPY --from", executor.Job{On: stage, Reads: [][]image.Layer{stage}, Op: testCopy(t, "COPY --from=x --chown=me /out /d")}},
		{"COPY of a heredoc", executor.Job{Op: testCopy(t, "COPY <<f /d/")}},
		{"ADD of a URL", executor.Job{Op: testCopy(t, "ADD "+server.URL+"/x /d/")}},
		{"ADD of a repository", executor.Job{Op: testCopy(t, "ADD "+repo.URL+"r.git?mtime=commit /d/")}},
		{"WORKDIR", executor.Job{On: stage, Op: &planner.Mkdir{Path: "/a/b", User: "me"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			job := test.job
			job.Epoch = &epoch
			before := must1(describe(t.Context(), h.worker, &job))(t).Key()
			want := must1(h.worker.Do(t.Context(), job, io.Discard))(t).Layer
			pack(t, h.worker, &job)
			text := must1(json.Marshal(job))(t)
			var read executor.Job
			check(t, json.Unmarshal(text, &read))
			if !reflect.DeepEqual(read.Op, job.Op) || must1(read.Key())(t).Key() != before {
				t.Errorf("the job read again is another: %s", text)
			}
			check(t, h.layout.Publish(t.Context()))
			name := filepath.Join(t.TempDir(), "job")
			check(t, os.WriteFile(name, text, 0o600))
			cmd := exec.Command(os.Args[0], "-test.run=^TestJobElsewhere$", "-test.v")
			cmd.Env = append(os.Environ(), jobVariable+"="+name, blobsVariable+"="+filepath.Dir(h.layout.BlobPath(digest.FromString(""))))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got := string(must1(os.ReadFile(name + ".done"))(t)); got != want.DiffID.String() {
				t.Errorf("here it makes %s, elsewhere %s", want.DiffID, got)
			}
		})
	}
}

// pack makes layers of what a job reads of a context.
func pack(t *testing.T, w *Worker, job *executor.Job) {
	t.Helper()
	for n := range job.Inputs {
		outside := false
		switch op := job.Op.(type) {
		case *planner.Copy:
			outside = op.From.Read < 0 && op.Sources[n].Path != ""
		case *planner.Run:
			outside = op.Mounts[n].From != nil && op.Mounts[n].From.Read < 0
		}
		if outside {
			layer := must1(w.Inputs.Pack(t.Context(), job.Op, n, job.Epoch))(t)
			job.Inputs[n].Layer = &layer
		}
	}
}

// doElsewhere does the job of a file with a store of its own, and writes the diffID that came of it beside the file.
func doElsewhere(t *testing.T, name string) {
	h := newHome(t)
	var job executor.Job
	check(t, json.Unmarshal(must1(os.ReadFile(name))(t), &job))
	layers := job.On
	for _, read := range job.Reads {
		layers = append(layers, read...)
	}
	for _, in := range job.Inputs {
		if in.Layer != nil {
			layers = append(layers, *in.Layer)
		}
	}
	for _, l := range layers {
		blob := must1(os.ReadFile(filepath.Join(os.Getenv(blobsVariable), l.Blob.Digest.Encoded())))(t)
		check(t, os.WriteFile(h.layout.BlobPath(l.Blob.Digest), blob, 0o600))
	}
	var log strings.Builder
	result, err := h.worker.Do(t.Context(), job, &log)
	if err != nil {
		t.Fatal(err, log.String())
	}
	check(t, os.WriteFile(name+".done", []byte(result.Layer.DiffID), 0o600))
}

// TestJobChecksWhatItReads holds that a layer in the place of a context must hold what the job was resolved to.
func TestJobChecksWhatItReads(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	w.Inputs.Contexts[""] = testContext(t, "d/a =1")
	job := executor.Job{Op: testCopy(t, "COPY d /")}
	must1(describe(t.Context(), w, &job))(t)
	other := testLayers(t, w, "d/a =2")
	job.Inputs[0].Layer = &other[0]
	if _, err := w.Do(t.Context(), job, io.Discard); err == nil || !strings.Contains(err.Error(), "/d/a: changed while the build read it") {
		t.Errorf("a layer with other files: %v", err)
	}
}

// TestJobJSON holds which jobs cannot be written, and what cannot be read.
func TestJobJSON(t *testing.T) {
	t.Parallel()
	for name, job := range map[string]executor.Job{
		"a base":                 {Op: &planner.Base{}},
		"text that is not UTF-8": {Op: &planner.Run{Args: []string{"echo", "\xff"}}},
	} {
		if text, err := json.Marshal(job); err == nil {
			t.Errorf("%s is written as %s", name, text)
		}
	}
	var job executor.Job
	err := json.Unmarshal([]byte(`{"op":{"kind":"dance","op":{}}}`), &job)
	if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), `kind "dance"`) {
		t.Errorf("an unknown kind: %v", err)
	}
}
