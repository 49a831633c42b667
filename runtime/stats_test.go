package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// accounted starts a container that every cgroup controller counts.
func accounted(t *testing.T, s Spec) (*Process, *Target) {
	t.Helper()
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && parent.dir["memory"] != "" && (parent.unified || parent.dir["freezer"] != ""), Cgroups())
	s.Limits.Account = true
	return running(t, s)
}

// A frozen container does nothing, and goes on where it was; killed, it ends.
func TestFreeze(t *testing.T) {
	root := rootfs(t)
	p, target := accounted(t, Spec{Root: openDir(t, root), Args: []string{"sh", "-c", "while :; do echo x >>/tmp/x; sleep 0.01; done"}})
	size := func() int64 {
		info, err := os.Stat(filepath.Join(root, "tmp/x"))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	await(t, "the container does nothing", func() bool { return size() > 0 })
	if err := target.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	if is, err := target.frozen(); !is || err != nil {
		t.Errorf("frozen %v, %v", is, err)
	}
	before := size()
	time.Sleep(50 * time.Millisecond)
	if after := size(); after != before {
		t.Errorf("a frozen container wrote %d bytes", after-before)
	}
	if err := target.Thaw(); err != nil {
		t.Error(err)
	}
	await(t, "the container does not go on", func() bool { return size() > before })
	if err := target.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := target.Signal(os.Kill); err != nil {
		t.Error(err)
	}
	if exit, err := p.Wait(); exit.Code != 137 || err != nil {
		t.Errorf("killed while frozen: exit %+v, %v", exit, err)
	}
	if err := target.Freeze(context.Background()); !errors.Is(err, os.ErrProcessDone) && err == nil {
		t.Errorf("freeze the dead: %v", err)
	}
}

// A container that nobody counts can be frozen, too, while it makes processes, and again with what joined it meanwhile. It leaves
// no cgroup.
func TestFreezeUncounted(t *testing.T) {
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && (parent.unified || parent.dir["freezer"] != ""), Cgroups())
	root := rootfs(t)
	p, target := running(t, Spec{Root: openDir(t, root), Args: []string{"sh", "-c", "while :; do (echo x >>/tmp/x); done"}})
	frozenNow := func() {
		t.Helper()
		if err := target.Freeze(context.Background()); err != nil {
			t.Fatal(err)
		}
		if is, err := target.frozen(); !is || err != nil {
			t.Errorf("frozen %v, %v", is, err)
		}
		before, err := os.ReadFile(filepath.Join(root, "tmp/x"))
		time.Sleep(50 * time.Millisecond)
		after, err2 := os.ReadFile(filepath.Join(root, "tmp/x"))
		if err := errors.Join(err, err2); err != nil || len(after) != len(before) {
			t.Errorf("a frozen container wrote %d bytes, %v", len(after)-len(before), err)
		}
	}
	join := func() {
		t.Helper()
		_, err := Join(context.Background(), target, Spec{Args: []string{"sh", "-c", "while :; do echo x >>/tmp/x; done"}, Env: []string{"PATH=/bin"}}, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the container does nothing", func() bool { _, err := os.Stat(filepath.Join(root, "tmp/x")); return err == nil })
	join()
	frozenNow()
	if err := target.Thaw(); err != nil {
		t.Error(err)
	}
	join()
	frozenNow()
	if err := target.Signal(os.Kill); err != nil {
		t.Error(err)
	}
	if exit, err := p.Wait(); exit.Code != 137 || err != nil {
		t.Errorf("killed while frozen: exit %+v, %v", exit, err)
	}
	if err := target.Freeze(context.Background()); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("freeze the dead: %v", err)
	}
	if left := leftCgroups(t, os.Getpid()); left > 0 {
		t.Errorf("%d cgroups are left", left)
	}
}

// A caller that ends takes a frozen container with it.
func TestCancelFrozen(t *testing.T) {
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && (parent.unified || parent.dir["freezer"] != ""), Cgroups())
	ctx, cancel := context.WithCancel(context.Background())
	s := Spec{Root: openDir(t, rootfs(t)), Args: []string{"sleep", longTime()}, Env: []string{"PATH=/bin"}, Limits: Limits{Account: true}}
	p, err := Start(ctx, s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := p.Ref()
	if err != nil {
		t.Fatal(err)
	}
	target, err := Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := target.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if exit, err := p.Wait(); exit.Code != 137 || !errors.Is(err, context.Canceled) {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

// Without a cgroup that freezes there are words.
func TestFreezeNothing(t *testing.T) {
	_, target := running(t, Spec{})
	target.Cgroups = nil
	if err := target.Freeze(context.Background()); err == nil || !strings.Contains(err.Error(), "this one has none") {
		t.Errorf("freeze without cgroups: %v", err)
	}
	pids, err := target.Processes()
	if err != nil || len(pids) != 1 || pids[0] != target.Pid {
		t.Errorf("processes without cgroups: %v, %v", pids, err)
	}
}

func TestStats(t *testing.T) {
	const script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; ping -c 1 127.0.0.1 >/dev/null; sleep 100 & : >/tmp/ready; while :; do :; done"
	root := rootfs(t)
	p, target := accounted(t, Spec{Root: openDir(t, root), Args: []string{"sh", "-c", script}, Limits: Limits{Memory: 64 << 20, Pids: 50}})
	await(t, "the container is not ready", func() bool { _, err := os.Stat(filepath.Join(root, "tmp/ready")); return err == nil })
	first, err := target.Stats()
	if err != nil {
		t.Fatal(err)
	}
	await(t, "no time passes", func() bool {
		second, err := target.Stats()
		return err == nil && second.Percent(&first) > 1 && second.CPU > first.CPU
	})
	if first.Memory < 8<<20 || first.Memory > 64<<20 || first.MemoryLimit != 64<<20 || first.Pids != 2 || first.PidsLimit != 50 {
		t.Errorf("%+v", first)
	}
	if first.Received != 0 || first.Processors < 1 || first.Machine <= 0 {
		t.Errorf("%+v", first)
	}
	// Without cgroups the processes are added up. What was written to /dev/shm belongs to none of them.
	cgroups := target.Cgroups
	target.Cgroups = nil
	var sum Stats
	await(t, "no time passes without cgroups", func() bool { sum, err = target.Stats(); return err != nil || sum.CPU > 0 })
	if err != nil || sum.Memory <= 0 || sum.Memory > 8<<20 || sum.MemoryLimit <= 64<<20 || sum.Pids != 2 || sum.PidsLimit != -1 {
		t.Errorf("without cgroups: %+v, %v", sum, err)
	}
	// So is what those that there are do not count.
	target.Cgroups = slices.DeleteFunc(slices.Clone(cgroups), func(dir string) bool {
		return fileIn([]string{dir}, "pids.current") == "" || fileIn([]string{dir}, "memory.stat") != ""
	})
	if sum, err = target.Stats(); err != nil || sum.CPU <= 0 || sum.Memory <= 0 || sum.PidsLimit != 50 && len(target.Cgroups) > 0 {
		t.Errorf("with %q only: %+v, %v", target.Cgroups, sum, err)
	}
	target.Cgroups = cgroups
	pids, err := target.Processes()
	if err != nil || len(pids) != 2 || pids[0] != target.Pid && pids[1] != target.Pid {
		t.Errorf("processes %v of %d, %v", pids, target.Pid, err)
	}
	p.Signal(os.Kill)
	p.Wait()
	if s, err := target.Stats(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stats of the dead: %+v, %v", s, err)
	}
	if pids, err := target.Processes(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("processes of the dead: %v, %v", pids, err)
	}
}

func TestUpdate(t *testing.T) {
	_, target := accounted(t, Spec{Limits: Limits{Memory: 32 << 20}})
	value := func(files ...string) string {
		for _, file := range files {
			if path := fileIn(target.Cgroups, file); path != "" {
				b, _ := os.ReadFile(path)
				return strings.TrimSpace(string(b))
			}
		}
		return ""
	}
	for _, l := range []Limits{
		{Memory: 256 << 20, MemorySwap: 300 << 20, Pids: 77, CPULimits: CPULimits{NanoCPUs: 5e8, CPUShares: 512}},
		{Memory: 16 << 20, MemorySwap: 17 << 20},
		{Memory: 64 << 20},
	} {
		if err := target.Update(l); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
		if got, want := value("memory.max", "memory.limit_in_bytes"), itoa(int(l.Memory)); got != want {
			t.Errorf("memory %s, want %s", got, want)
		}
	}
	if got := value("pids.max"); got != "77" {
		t.Errorf("processes %s", got)
	}
	if got := value("cpu.max", "cpu.cfs_quota_us"); !strings.HasPrefix(got, "50000") {
		t.Errorf("quota %s", got)
	}
	if got := value("memory.memsw.limit_in_bytes"); got != "" && got != itoa(128<<20) {
		t.Errorf("memory and swap %s", got)
	}
	if err := target.Update(Limits{MemorySwap: 1}); err == nil {
		t.Error("swap without memory is no error")
	}
}

// Limits that are asked for are there; those that contradict each other or the machine are errors in docker's words.
func TestMoreLimits(t *testing.T) {
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && !parent.unified && parent.dir["cpuset"] != "" && parent.dir["memory"] != "", Cgroups())
	_, target := running(t, Spec{Limits: Limits{
		Memory: 32 << 20, MemorySwap: -1, MemoryReservation: 8 << 20, OOMKillDisable: true, OOMScoreAdj: 321,
		CPULimits: CPULimits{CPUShares: 300, CPUs: "0", Mems: "0", CPUPeriod: 50000, CPUQuota: 20000},
	}})
	for file, want := range map[string]string{
		"memory.limit_in_bytes": itoa(32 << 20), "memory.soft_limit_in_bytes": itoa(8 << 20), "cpu.shares": "300", "cpuset.cpus": "0",
		"cpuset.mems": "0", "cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "20000",
	} {
		if b, err := os.ReadFile(fileIn(target.Cgroups, file)); strings.TrimSpace(string(b)) != want {
			t.Errorf("%s is %s, %v, want %s", file, b, err, want)
		}
	}
	if got := number(fileIn(target.Cgroups, "memory.memsw.limit_in_bytes")); got < 1<<60 {
		t.Errorf("memory and swap %d", got)
	}
	if b, _ := os.ReadFile(fileIn(target.Cgroups, "memory.oom_control")); !strings.Contains(string(b), "oom_kill_disable 1\n") {
		t.Errorf("oom_control %s", b)
	}
	if b, _ := os.ReadFile("/proc/" + itoa(target.Pid) + "/oom_score_adj"); string(b) != "321\n" {
		t.Errorf("oom_score_adj %s", b)
	}
	if out, _ := join(t, target, Spec{Limits: Limits{OOMScoreAdj: 321}}, "cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status | tr -d '\\t'"); out != "321\nCpus_allowed_list:0\n" {
		t.Errorf("of what joins: %s", out)
	}
	for _, test := range []struct {
		limits Limits
		want   string
	}{
		{Limits{MemorySwap: 1 << 30}, "limits: you should always set the Memory limit when using Memoryswap limit, see usage"},
		{Limits{Memory: 2 << 30, MemorySwap: 1 << 30}, "limits: minimum memoryswap limit should be larger than memory limit, see usage"},
		{Limits{Memory: 1 << 30, MemoryReservation: 2 << 30}, "limits: minimum memory limit can not be less than memory reservation limit, see usage"},
		{Limits{CPULimits: CPULimits{Mems: "99"}}, "limits: requested memory nodes are not available - requested 99, available: "},
		{Limits{CPULimits: CPULimits{CPUs: "99"}}, "limits: requested CPUs are not available - requested 99, available: "},
		{Limits{OOMScoreAdj: 1001}, "limits: invalid value 1001, range for oom score adj is [-1000, 1000]"},
	} {
		_, err := Start(context.Background(), Spec{Root: openDir(t, t.TempDir()), Args: []string{"x"}, Limits: test.limits}, Stdio{})
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %s", test.limits, err, test.want)
		}
	}
	if err := (&Limits{MemorySwap: -1}).check(); err != nil { // which limits nothing
		t.Error(err)
	}
	if left := leftCgroups(t, os.Getpid()); left > len(target.Cgroups) {
		t.Errorf("%d cgroups, the container has %d", left, len(target.Cgroups))
	}
}

func TestCPUWeight(t *testing.T) {
	for shares, want := range map[int64]int{1: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 30: 10000} {
		if got := cpuWeight(shares); got != want {
			t.Errorf("weight of %d shares is %d, want %d", shares, got, want)
		}
	}
}
