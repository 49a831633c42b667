package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestUnifiedFiles: what the files of a cgroup of version 2 say is read as it is meant, and limits are written in its words. The kernel's
// own files of the controllers are to be had only where none of them is bound to version 1, so that a directory stands for the cgroup.
func TestUnifiedFiles(t *testing.T) {
	_, target := running(t, Spec{})
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids\n",
		"cgroup.freeze":      "0\n",
		"cgroup.events":      "populated 1\nfrozen 1\n",
		"cpu.stat":           "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 0\n",
		"memory.current":     "20971520\n",
		"memory.stat":        "anon 1\nfile 2\ninactive_file 4194304\n",
		"memory.max":         "67108864\n",
		"memory.swap.max":    "max\n",
		"memory.low":         "0\n",
		"pids.current":       "7\n",
		"pids.max":           "max\n",
		"io.stat":            "8:0 rbytes=100 wbytes=200 rios=1 wios=2\n8:16 rbytes=1 wbytes=2\n",
		"cpu.max":            "max 100000\n",
		"cpu.weight":         "100\n",
		"cpuset.cpus":        "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target.Cgroups = []string{dir}
	s, err := target.Stats()
	got := fmt.Sprint(s.CPU, s.CPUUser, s.CPUSystem, " ", s.Memory>>20, s.MemoryLimit>>20, " ", s.Pids, s.PidsLimit, " ", s.Read, s.Written)
	if want := fmt.Sprint(3*time.Second, 2*time.Second, time.Second, " ", 16, 64, " ", 7, -1, " ", 101, 202); err != nil || got != want {
		t.Errorf("stats %s, %v, want %s", got, err, want)
	}

	if err := target.Update(Limits{
		Memory: 32 << 20, MemorySwap: 40 << 20, MemoryReservation: 8 << 20, Pids: 50,
		CPULimits: CPULimits{NanoCPUs: 15e8, CPUShares: 1024, CPUs: "0"},
	}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"memory.max": "33554432", "memory.swap.max": "8388608", "memory.low": "8388608", "pids.max": "50",
		"cpu.max": "150000 100000", "cpu.weight": "100", "cpuset.cpus": "0",
	} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasPrefix(string(b), want) { // a file of the kernel holds nothing of what was in it before
			t.Errorf("%s: %q, %v, want %s", name, b, err, want)
		}
	}
	if err := target.Update(Limits{Pids: -1, MemorySwap: -1, Memory: 64 << 20}); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"pids.max": "max", "memory.swap.max": "max"} {
		if b, _ := os.ReadFile(filepath.Join(dir, name)); !strings.HasPrefix(string(b), want) {
			t.Errorf("%s: %q, want %s", name, b, want)
		}
	}

	if err := target.Freeze(context.Background()); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "cgroup.freeze")); !strings.HasPrefix(string(b), "1") {
		t.Errorf("frozen: %q", b)
	}
	if err := target.Thaw(); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "cgroup.freeze")); !strings.HasPrefix(string(b), "0") {
		t.Errorf("thawed: %q", b)
	}
}
