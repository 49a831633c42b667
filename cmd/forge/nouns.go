package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
)

type containerPruneCmd struct {
	Force  bool     `short:"f" help:"Do not ask."`
	Filter []string `sep:"none" help:"until=TIME, label=K[=V] or label!=K[=V]." placeholder:"KEY=VALUE"`
}

func (c *containerPruneCmd) Run(s *session) error {
	if ok, err := confirmed(s, c.Force, "all stopped containers"); err != nil || !ok {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		removed, bytes, err := h.PruneContainers(s.ctx, c.Filter)
		if len(removed) > 0 {
			_, _ = fmt.Fprintf(s.out, "Deleted Containers:\n%s\n\n", strings.Join(removed, "\n"))
		}
		_, _ = fmt.Fprintln(s.out, "Total reclaimed space:", units.HumanSize(float64(bytes)))
		return err
	})
}

type imagePruneCmd struct {
	All    bool     `short:"a" help:"Images that have a name but no container, too."`
	Force  bool     `short:"f" help:"Do not ask."`
	Filter []string `sep:"none" help:"until=TIME, label=K[=V], label!=K[=V] or dangling=false, which is -a." placeholder:"KEY=VALUE"`
}

func (c *imagePruneCmd) Run(s *session) error {
	prune := pruneCmd{All: c.All, Force: c.Force, Filter: c.Filter, only: forge.PruneImages}
	return prune.Run(s)
}

type bootCmd struct{}

// Run starts what is to run after the machine was started.
func (c *bootCmd) Run(s *session) error { return s.printIDs((*forge.Home).Boot) }

// printIDs does something with containers, and prints which they were.
func (s *session) printIDs(do func(*forge.Home, context.Context) ([]string, error)) error {
	return s.withHome(func(h *forge.Home) error {
		done, err := do(h, s.ctx)
		for _, id := range done {
			_, _ = fmt.Fprintln(s.out, id)
		}
		return err
	})
}

type shutdownCmd struct{}

// Run stops what runs before the machine stops.
func (c *shutdownCmd) Run(s *session) error { return s.printIDs((*forge.Home).Shutdown) }

type unitCmd struct {
	Container string `arg:"" optional:"" help:"Container to write a unit for; without one, the unit starts all that the restart policies say." placeholder:"CONTAINER"`
}

// Run prints a unit for systemd.
func (c *unitCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		forgeWords, err := s.selfWords(h)
		if err != nil {
			return err
		}
		line := func(words ...string) string { return execLine(slices.Concat(forgeWords, words)) }
		what, start, stop := "Containers of forge that are to run", line("system", "boot"), line("system", "shutdown")
		if c.Container != "" {
			info, err := h.Container(c.Container)
			if err != nil {
				return err
			}
			what, start, stop = "Container "+info.Name, line("start", info.Name), line("stop", info.Name)
		}
		target := "multi-user.target"
		if forge.Rootless() {
			target = "default.target"
		}
		_, err = fmt.Fprintf(s.out, `[Unit]
Description=%s
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=%s
ExecStop=%s
TimeoutStopSec=infinity
KillMode=process
Delegate=yes

[Install]
WantedBy=%s
`, what, start, stop, target)
		return err
	})
}

// selfWords begin a command line of this program for a unit. The store is always named: the environment of a service is another one.
func (s *session) selfWords(h *forge.Home) ([]string, error) {
	self, err := os.Executable()
	words := []string{self, "--store", h.Dir}
	if s.options.Snapshotter != "" {
		words = append(words, "--snapshotter", string(s.options.Snapshotter))
	}
	return words, err
}

// execLine is a command line as a unit wants it, which has specifiers, variables and quotes of its own (systemd.service(5)).
func execLine(words []string) string {
	escape := strings.NewReplacer("\\", "\\\\", `"`, `\"`, "%", "%%", "$", "$$")
	var quoted []string
	for _, w := range words {
		e := escape.Replace(w)
		if e != w || strings.ContainsAny(w, " \t'") {
			e = `"` + e + `"`
		}
		quoted = append(quoted, e)
	}
	return strings.Join(quoted, " ")
}
