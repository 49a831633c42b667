package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// A command is found in the last directory of a long PATH, with and without a process 1 of its own, and in a container that runs.
func TestLongPath(t *testing.T) {
	root := openDir(t, rootfs(t))
	_, target := running(t, Spec{Root: root})
	path := func(n int) []string { return []string{"PATH=" + strings.Repeat("/nowhere:", n-1) + "/bin"} }
	for name, start := range map[string]func(Spec) (*Process, error){
		"new":  func(s Spec) (*Process, error) { return Start(context.Background(), s, Stdio{}) },
		"init": func(s Spec) (*Process, error) { s.Init = true; return Start(context.Background(), s, Stdio{}) },
		"join": func(s Spec) (*Process, error) { return Join(context.Background(), target, s, Stdio{}) },
	} {
		p, err := start(Spec{Root: root, Args: []string{"true"}, Env: path(maxExecs)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if exit, err := p.Wait(); exit.Code != 0 || err != nil {
			t.Errorf("%s: exit %+v, %v", name, exit, err)
		}
		_, err = start(Spec{Root: root, Args: []string{"nothing"}, Env: path(maxExecs)})
		if execErr, ok := errors.AsType[*ExecError](err); !ok || execErr.Path != "nothing" {
			t.Errorf("%s: %v, want that nothing was found", name, err)
		}
		if _, err = start(Spec{Root: root, Args: []string{"true"}, Env: path(maxExecs + 1)}); err == nil || !strings.Contains(err.Error(), "PATH has 1025 directories") {
			t.Errorf("%s: %v, want that PATH is too long", name, err)
		}
	}
}
