package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCDI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.json", `{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "containerEdits": {"env": ["ALL=1"]}, "devices": [
		{"name": "one", "containerEdits": {"env": ["N=one"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null"}]}},
		{"name": "two", "containerEdits": {"env": ["N=two"]}}]}`)
	write("b.yaml", "cdiVersion: 0.5.0\nkind: other/x\ndevices:\n- name: \"0\"\n  containerEdits:\n    env:\n    - Y=0\n")
	write("d.json", `{"kind": "third.com\/x", "devices": [{"name": "0", "containerEdits": {"env": ["Z=\ud83d\ude00"]}}]}`)
	write("README", "not a spec")
	specs, err := readCDI([]string{filepath.Join(dir, "none"), dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, want string }{
		{"vendor.com/gpu=one", "N=one ALL=1"},
		{"vendor.com/gpu=two", "N=two ALL=1"},
		{"vendor.com/gpu=*", "N=one N=two ALL=1"},
		{"vendor.com/gpu", "N=one ALL=1"},
		{"vendor.com/gpu=three", ""},
		{"vendor.com/nic=one", ""},
		{"other/x=0", "Y=0"},
		{"third.com/x=0", "Z=\U0001f600"},
	} {
		var env []string
		for _, e := range findCDI(specs, test.name) {
			env = append(env, e.Env...)
		}
		if got := strings.Join(env, " "); got != test.want {
			t.Errorf("%s: variables are %q, want %q", test.name, got, test.want)
		}
	}
	write("c.json", "{")
	if _, err := readCDI([]string{dir}); err == nil || !strings.Contains(err.Error(), "c.json") {
		t.Errorf("error = %v, want one that names c.json", err)
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	h := newRunHome(t)
	specs, err := readCDI(nil)
	if err != nil || len(specs) > 0 {
		t.Fatal(specs, err)
	}
	c := h.prepare(Options{Process: Process{Args: []string{"/bin/sh", "-c", "head -c 3 $DEV | wc -c"}}})
	var edits cdiEdits
	edits.Env = []string{"DEV=/dev/mine"}
	edits.Nodes = append(edits.Nodes, struct {
		Path     string `json:"path"`
		HostPath string `json:"hostPath"`
	}{"/dev/mine", "/dev/zero"})
	if err := c.edit(edits); err != nil {
		t.Fatal(err)
	}
	if out := h.output(c); out != "3\n" {
		t.Errorf("printed %q, want 3", out)
	}
	edits.Hooks = append(edits.Hooks, struct {
		Name string `json:"hookName"`
		Path string `json:"path"`
	}{"createContainer", "/bin/hook"})
	if err := c.edit(edits); err == nil || !strings.Contains(err.Error(), "it needs the hook createContainer (/bin/hook), and hooks are not run") {
		t.Errorf("error = %v, want that hooks are not run", err)
	}
}
