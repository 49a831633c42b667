package forge

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/runtime"
)

// NamespaceOptions say what a container shares with this machine or with other containers, and what it sets of its own.
type NamespaceOptions struct {
	IPC      string   `name:"ipc" help:"private, shareable, host or container:NAME." placeholder:"MODE"` // "" is private
	PID      string   `name:"pid" help:"host or container:NAME." placeholder:"MODE"`
	UTS      string   `name:"uts" help:"host." placeholder:"MODE"`
	Cgroupns string   `help:"private or host." placeholder:"MODE"` // "" is private
	Userns   string   `help:"host." placeholder:"MODE"`
	Sysctls  []string `name:"sysctl" sep:"none" help:"Setting of the kernel for the container." placeholder:"NAME=VALUE"`
	GroupAdd []string `sep:"none" help:"Another group of the user." placeholder:"GROUP"`
	Init     bool     `help:"Let process 1 be one that reaps and passes signals on."`
}

// check refuses words that mean nothing, as docker does.
func (o *NamespaceOptions) check() error {
	for _, n := range []struct{ flag, value, allowed string }{
		{"IPC", o.IPC, "private shareable host none"},
		{"PID", o.PID, "host"},
		{"UTS", o.UTS, "host"},
		{"cgroup", o.Cgroupns, "private host"},
		{"userns", o.Userns, "host"},
	} {
		other, shared := strings.CutPrefix(n.value, inContainer)
		switch {
		case n.value == "" || containsWord(n.allowed, n.value):
		case shared && other != "" && (n.flag == "IPC" || n.flag == "PID"):
		default:
			return fmt.Errorf("invalid %s mode: %s", n.flag, n.value)
		}
	}
	_, err := o.sysctls()
	return err
}

func containsWord(words, word string) bool {
	for _, w := range strings.Fields(words) {
		if w == word {
			return true
		}
	}
	return false
}

func (o *NamespaceOptions) sysctls() (map[string]string, error) {
	m := map[string]string{}
	for _, s := range o.Sysctls {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--sysctl %s: write NAME=VALUE", s)
		}
		m[k] = v
	}
	return m, nil
}

// share fills in what the container shares. The targets are open until the container runs.
func (h *Home) share(o *NamespaceOptions, c *container.Options, open *closers.Stack) (err error) {
	for _, n := range []struct {
		value string
		to    *runtime.Namespace
	}{{o.IPC, &c.Shared.IPC}, {o.PID, &c.Shared.PID}, {o.UTS, &c.Shared.UTS}, {o.Cgroupns, &c.Shared.Cgroup}} {
		other, shared := strings.CutPrefix(n.value, inContainer)
		switch {
		case n.value == "host":
			n.to.Host = true
		case shared:
			if n.to.Of, err = h.target(other); err != nil {
				return err
			}
			open.Push(n.to.Of.Close)
		}
	}
	if c.Sysctls, err = o.sysctls(); err != nil {
		return err
	}
	c.Process.Groups, c.Process.Init = o.GroupAdd, o.Init
	return nil
}

// target opens a container that must run.
func (h *Home) target(ref string) (*runtime.Target, error) {
	r, run, status, err := h.findRun(ref)
	if err != nil {
		return nil, err
	}
	if status != state.Running {
		return nil, fmt.Errorf("cannot join the namespace of a container that does not run: %s", cmp.Or(ref, r.ID))
	}
	t, err := runtime.Open(run.Ref)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("container %s", ref), err)
	}
	return t, nil
}
