package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
)

// asUser has the commands of workers run as an ordinary user without any privilege.
func asUser(cmd *exec.Cmd) {
	_ = os.Chown(cmd.Dir, ordinaryUser, ordinaryUser)
	_ = os.Chmod(cmd.Dir, 0o755)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
}

// serveCluster starts a server of the Remote Execution API whose workers are processes: cluster NAME [user|cache]. With "user" they run
// as an ordinary user, with "cache" there are none. $NAME becomes its address.
func serveCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: cluster NAME [user|cache]")
	}
	dir := ts.MkAbs(args[0] + ".work")
	ts.Check(os.Mkdir(dir, 0o755))
	s := &reapitest.Server{Execute: reapitest.Process(dir, nil)}
	if len(args) == 2 && args[1] == "user" {
		ts.Check(openTo(dir))
		s.Execute = reapitest.Process(dir, asUser)
	} else if len(args) == 2 {
		s.Execute = nil
	}
	address, shut, err := s.Serve()
	ts.Check(err)
	ts.Defer(shut)
	ts.Setenv(args[0], address)
}

// A remoteKit is a build context, and a server.
type remoteKit struct {
	t        *testing.T
	dir      string
	with     func(o *forge.BuildOptions) // may be nil
	warnings []string
}

func newRemoteKit(t *testing.T, dockerfile string) *remoteKit {
	t.Helper()
	long(t)
	t.Parallel()
	needs(t, "root", "busybox")
	base, err := busyboxTar()
	check(t, err)
	k := &remoteKit{t: t, dir: t.TempDir()}
	check(t, openTo(k.dir))
	check(t, os.WriteFile(filepath.Join(k.dir, "base.tar"), base, 0o600))
	check(t, os.Mkdir(filepath.Join(k.dir, "context"), 0o700))
	check(t, os.WriteFile(filepath.Join(k.dir, "context/Dockerfile"), []byte(dockerfile), 0o600))
	check(t, os.WriteFile(filepath.Join(k.dir, "context/file"), []byte("content\n"), 0o600))
	return k
}

// build builds with a store of its own, and returns the layers of the image. Without an address all is done here.
func (k *remoteKit) build(store, address string) []image.Layer {
	k.t.Helper()
	layers, err := k.try(store, address)
	check(k.t, err)
	return layers
}

func (k *remoteKit) try(store, address string) ([]image.Layer, error) {
	k.t.Helper()
	h, err := forge.Open(k.t.Context(), forge.Options{Dir: filepath.Join(k.dir, store)})
	check(k.t, err)
	defer h.Close()
	_, err = h.Import(k.t.Context(), forge.ImportOptions{File: filepath.Join(k.dir, "base.tar"), Name: "base", Changes: []string{"ENV PATH=" + basePath}})
	check(k.t, err)
	epoch := time.Unix(1_700_000_000, 0).UTC()
	o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: filepath.Join(k.dir, "context")}, Epoch: &epoch}
	o.Remote, o.RemotePolicy = address, "auto"
	var mu sync.Mutex
	o.Events = func(e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == event.Warning {
			k.warnings = append(k.warnings, e.Text)
		}
	}
	if k.with != nil {
		k.with(&o)
	}
	r, err := h.Build(k.t.Context(), o)
	if err != nil {
		return nil, err
	}
	return r.Images[0].Layers(), nil
}

const stagesOfAll = `
FROM base AS one
WORKDIR /w
COPY file .
RUN --network=none cat file > one; chmod 4711 one; ln one two
RUN --network=none rm one; mkdir -p a/b; echo x > a/b/c
FROM base AS other
RUN --network=none --mount=type=bind,target=/in cat /in/file > /other
FROM one
COPY --from=other /other .
RUN --network=none ls > list
`

// TestRemoteLayers holds that workers, as root and as a user without privileges, make the layers that this machine makes, and that
// nobody makes them twice.
func TestRemoteLayers(t *testing.T) {
	k := newRemoteKit(t, stagesOfAll)
	want := image.ChainID(k.build("here", ""))
	if address := os.Getenv("FORGE_TEST_REMOTE"); address != "" {
		for _, store := range []string{"real", "real again"} {
			if got := image.ChainID(k.build(store, address)); got != want || len(k.warnings) > 0 {
				t.Errorf("%s: layers %s, want %s; warnings %q", address, got, want, k.warnings)
			}
		}
		return
	}
	for name, prepare := range map[string]func(*exec.Cmd){"root": nil, "user": asUser} {
		s := &reapitest.Server{Execute: reapitest.Process(k.work(name), prepare)}
		address := s.Start(t)
		if got := image.ChainID(k.build(name, address)); got != want || s.Executed() < 4 {
			t.Errorf("%s: layers %s, want %s; %d actions", name, got, want, s.Executed())
		}
		done := s.Executed()
		if got := image.ChainID(k.build(name+" again", address)); got != want || s.Executed() != done {
			t.Errorf("%s: from the action cache: layers %s, want %s; %d actions more", name, got, want, s.Executed()-done)
		}
	}
	if len(k.warnings) > 0 {
		t.Errorf("warnings: %q", k.warnings)
	}
}

// work is a directory for workers.
func (k *remoteKit) work(name string) string {
	dir := filepath.Join(k.dir, "work of "+name)
	check(k.t, os.Mkdir(dir, 0o755))
	return dir
}

// TestRemoteWorkers holds that as many stages are done side by side as there are workers: 24 processes, each of which waits until it has seen that
// all others are there.
func TestRemoteWorkers(t *testing.T) {
	const stages = 24
	text, copies := "", "FROM base\n"
	for i := range stages {
		text += fmt.Sprintf("FROM base AS s%d\nRUN --network=none echo %d > /f%d\n", i, i, i)
		copies += fmt.Sprintf("COPY --from=s%d /f%d /\n", i, i)
	}
	k := newRemoteKit(t, text+copies)
	want := image.ChainID(k.build("here", ""))
	process := reapitest.Process(k.work("all"), asUser)
	s := &reapitest.Server{Workers: stages}
	s.Execute = waitForAll(stages, process)
	if got := image.ChainID(k.build("there", s.Start(t))); got != want || s.Executed() < stages {
		t.Errorf("layers %s, want %s; %d actions", got, want, s.Executed())
	}
}

// TestRemoteReads holds that a stage whose layers the server has is copied and mounted from without its layers coming here, and that a path which
// is not in it is refused in the words of a build here.
func TestRemoteReads(t *testing.T) {
	const stage = "FROM base AS other\nRUN --network=none head -c 1000000 /dev/urandom > /big; mkdir /d; echo small > /d/small\n"
	k := newRemoteKit(t, stage+"FROM base\nCOPY --from=other /d /e\nRUN --network=none --mount=type=bind,from=other,source=/d,target=/in cp /in/small /again\n")
	s := &reapitest.Server{Execute: reapitest.Process(k.work("all"), nil)}
	address := s.Start(t)
	layers := k.build("there", address)
	if n := s.Read(); len(layers) != 3 || n > 100_000 || len(k.warnings) > 0 {
		t.Errorf("%d layers, %d bytes came here, warnings %q", len(layers), n, k.warnings)
	}
	done := s.Executed()
	if got := k.build("there, fresh", address); image.ChainID(got) != image.ChainID(layers) || s.Executed() != done {
		t.Errorf("by another machine: layers %v, want %v; %d actions more", got, layers, s.Executed()-done)
	}
	check(t, os.WriteFile(filepath.Join(k.dir, "context/Dockerfile"), []byte(stage+"FROM base\nCOPY --from=other /none /\n"), 0o600))
	_, here := k.try("no path, here", "")
	_, there := k.try("no path, there", address)
	if here == nil || there == nil || here.Error() != there.Error() {
		t.Errorf("a path that is not there: %v, want %v", there, here)
	}
}

// TestRemoteStays holds that of the layers of remote stages only those come here that a step which has to stay here stands on or reads, and that what
// follows it goes out again.
func TestRemoteStays(t *testing.T) {
	const big = "RUN --network=none head -c 1000000 /dev/urandom > "
	k := newRemoteKit(t, "FROM base AS below\nRUN --network=none echo below > /below\nFROM base AS beside\n"+big+"/beside\n"+
		"FROM below\nRUN --network=none --mount=type=secret,id=s cat /below /run/secrets/s | wc -c > /count\n"+big+"/above\n"+
		"RUN --network=none --mount=type=bind,from=beside,target=/in cat /count /in/beside > /all\n")
	check(t, os.WriteFile(filepath.Join(k.dir, "secret"), []byte("secret"), 0o600))
	var here []string // what is done here, and why
	k.with = func(o *forge.BuildOptions) {
		o.Explain = true
		o.Outputs, o.Secrets = []forge.Output{{Type: "cacheonly"}}, []string{"id=s,src=" + filepath.Join(k.dir, "secret")}
		told := o.Events
		o.Events = func(e event.Event) {
			told(e)
			if why, ok := strings.CutPrefix(e.Text, "done on this machine"); ok && e.Kind == event.Explain {
				here = append(here, why)
			}
		}
	}
	s := &reapitest.Server{Execute: reapitest.Process(k.work("all"), nil)}
	k.build("there", s.Start(t))
	if n := s.Read(); !slices.Equal(here, []string{": it has a secret"}) || n > 100_000 || len(k.warnings) > 0 {
		t.Errorf("done here: %q; %d bytes came for that, warnings %q", here, n, k.warnings)
	}
}

// TestRemoteRestart holds that a server that loses all it had amid a build ends no build.
func TestRemoteRestart(t *testing.T) {
	k := newRemoteKit(t, stagesOfAll)
	want := image.ChainID(k.build("here", ""))
	process := reapitest.Process(k.work("lost"), nil)
	var done atomic.Int32
	s := &reapitest.Server{}
	s.Execute = process
	s.Fault = func(method string) error {
		if method == "Execute" && done.Add(1) == 3 {
			s.Forget()
		}
		return nil
	}
	if got := image.ChainID(k.build("there", s.Start(t))); got != want {
		t.Errorf("layers %s, want %s", got, want)
	}
	t.Logf("warnings: %q", k.warnings)
}

// TestRemoteTampered holds that a layer that is not what its digest says is refused and named, and made here in the end.
func TestRemoteTampered(t *testing.T) {
	k := newRemoteKit(t, "FROM base\nRUN --network=none echo x > /x\n")
	layers := k.build("here", "")
	want := image.ChainID(layers)
	bad := layers[len(layers)-1]
	process := reapitest.Process(k.work("bad"), nil)
	s := &reapitest.Server{}
	s.Execute = tampering(process, reapi.Digest{Hash: bad.DiffID.Encoded(), Size: bad.Blob.Size})
	got := image.ChainID(k.build("there", s.Start(t)))
	if got != want || !strings.Contains(strings.Join(k.warnings, "\n"), bad.DiffID.String()) {
		t.Errorf("layers %s, want %s; warnings %q", got, want, k.warnings)
	}
}

// execute is what workers do.
type execute = func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error)

// waitForAll has the first n workers begin when all of them are there. Those after them do what follows from the first.
func waitForAll(n int32, do execute) execute {
	var all sync.WaitGroup
	all.Add(int(n))
	var came atomic.Int32
	return func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		if came.Add(1) <= n {
			all.Done()
			all.Wait()
		}
		return do(ctx, t)
	}
}

// tampering replaces the content of a layer when it was made.
func tampering(do execute, d reapi.Digest) execute {
	return func(ctx context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
		r, err := do(ctx, t)
		if t.Server.Blob(d) != nil {
			t.Server.Set(d, make([]byte, d.Size))
		}
		return r, err
	}
}

// TestRemoteMemory holds that a build of 8,101 steps on a cluster, of which 1,000 are at work at once, takes at most 96 MB here, and three calls a step.
func TestRemoteMemory(t *testing.T) {
	const stages, steps, reads = 1000, 8, 10
	var text, last strings.Builder
	for i := range stages {
		fmt.Fprintf(&text, "FROM base AS s%d\n", i)
		for j := range steps {
			fmt.Fprintf(&text, "RUN --network=none step %d of %d\n", j, i)
		}
		fmt.Fprintf(&last, "--mount=type=bind,from=s%d,target=/in%d ", i, i)
		if i%reads == reads-1 {
			fmt.Fprintf(&last, "step\nRUN --network=none ")
		}
	}
	k := newRemoteKit(t, text.String()+"FROM base\nRUN --network=none "+last.String()+"step\n")
	s := &reapitest.Server{Workers: stages, Execute: waitForAll(stages, pretend)}
	address := s.Start(t)
	store := "FORGE_ROOT=" + filepath.Join(k.dir, "store")
	peak := 0 // of the last command, in KiB
	forge := func(args ...string) *exec.Cmd {
		cmd := exec.Command("forge", args...)
		cmd.Env = append(os.Environ(), store, "HOME="+k.dir)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var err error
		if peak, err = waitPeak(cmd); err != nil {
			t.Fatalf("forge %s: %v\n%s", args, err, out.Bytes()[max(0, out.Len()-2000):])
		}
		return cmd
	}
	forge("import", "--change", "ENV PATH="+basePath, filepath.Join(k.dir, "base.tar"), "base")
	cmd := forge("build", "-q", "-o", "type=cacheonly", "--remote", address, "--remote-policy", "only", filepath.Join(k.dir, "context"))
	t.Logf("%d MB, %s of processor time, %d calls", peak>>10, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), s.Calls(""))
	if peak == 0 || peak > 112<<10 { // 83 to 87; more where the collector is late, as on a busy machine
		t.Errorf("it takes %d MB", peak>>10)
	}
	const all = stages*steps + stages/reads + 1 + stages // to find out what a mount comes to is an action, too
	if n := s.Calls(""); n > 3*all+300 || s.Executed() != all {
		t.Errorf("%d calls and %d actions for %d steps", n, s.Executed(), all)
	}
}

// pretend is what workers do that only seem to work: each action makes a layer of its own, or finds out that a mount is some file.
func pretend(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
	if len(t.Command.Paths) == 1 {
		outcome := t.Server.Put(fmt.Appendf(nil, `{"version":1,"input":{"files":[{"name":"/","sum":%q}]}}`, t.Digest.Hash))
		return &reapi.ActionResult{Files: []reapi.OutputFile{{Path: executor.OutcomeFile, Digest: &outcome}}}, nil
	}
	tar := t.Server.Put([]byte(t.Digest.Hash))
	outcome := t.Server.Put(fmt.Appendf(nil, `{"version":1,"layer":{"Blob":{"digest":%q,"size":%d},"DiffID":%q}}`, tar.Name(), tar.Size, tar.Name()))
	return &reapi.ActionResult{Files: []reapi.OutputFile{
		{Path: executor.OutcomeTar, Digest: &tar}, {Path: executor.OutcomeFile, Digest: &outcome},
	}}, nil
}
